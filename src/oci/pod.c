/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/pod.h"

#include <string.h>

#include "base/json.h"
#include "base/path.h"

#define CONTAINER_TYPE OCI_POD_ANNOTATIONS "container-type"
#define SANDBOX_ID OCI_POD_ANNOTATIONS "sandbox-id"

int oci_pod_role(const json_t *spec, struct oci_pod *ret, struct err *err) {
    struct oci_pod pod = {.role = OCI_POD_NONE};
    json_t *annotations = NULL;
    const char *type = NULL;
    int r = json_get_obj(spec, "", "annotations", &annotations, err);
    if (r > 0)
        r = json_get_str(annotations, "annotations", CONTAINER_TYPE, &type, err);
    if (r < 0)
        return r;
    if (!type) {
        *ret = pod;
        return 0;
    }
    if (strcmp(type, "sandbox") == 0)
        pod.role = OCI_POD_SANDBOX;
    else if (strcmp(type, "container") == 0)
        pod.role = OCI_POD_MEMBER;
    else
        return err_set(err, EINVAL, "annotations.%s: must be sandbox or container, not \"%.64s\"", CONTAINER_TYPE,
                       type);

    r = json_get_str(annotations, "annotations", SANDBOX_ID, &pod.sandbox_id, err);
    if (r < 0)
        return r;
    if (!pod.sandbox_id && pod.role == OCI_POD_MEMBER)
        return err_set(err, EINVAL, "annotations.%s: is missing, and the container is a pod's", SANDBOX_ID);
    if (pod.sandbox_id && (r = id_validate("sandbox id", pod.sandbox_id, err)) < 0) {
        err_wrap(err, "annotations.%s", SANDBOX_ID);
        return r;
    }
    *ret = pod;
    return 0;
}

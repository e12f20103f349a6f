# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Loaded, after containerd.bash, by the files that make pods.

CRI=io.kubernetes.cri
# sandbox ID [OPTION…] : a pod's first container, which only sleeps.
sandbox() {
    local id=$1
    shift
    ctr_run -d --annotation $CRI.container-type=sandbox --annotation "$CRI.sandbox-id=$id" "$@" -- "$id" sleep 10000 \
        </dev/null >/dev/null 2>&1
}
# member SANDBOX [OPTION…] -- ID ARG… : a container of the pod, in the namespaces that pods share.
member() {
    local pod=$1 pid
    shift
    pid=$(task_pid "$pod")
    ctr_run -d --annotation $CRI.container-type=container --annotation "$CRI.sandbox-id=$pod" \
        --with-ns "network:/proc/$pid/ns/net" --with-ns "ipc:/proc/$pid/ns/ipc" --with-ns "uts:/proc/$pid/ns/uts" "$@" \
        </dev/null
}
# ns ID NAMES… : what the container's init process has, one a line.
ns() {
    local id=$1
    shift
    ex "$id" readlink "${@/#//proc/self/ns/}"
}
boot_id() {
    ex "$1" cat /proc/sys/kernel/random/boot_id
}
shims() {
    pgrep -fc -- "containerd-shim-.* -address $CTR_ADDRESS" || true
}
vms() {
    find "$R" -mindepth 2 -maxdepth 2 -name state.json | wc -l
}

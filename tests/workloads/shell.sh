#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A loop in a shell that counts into a pipe, as fast as it is read; each check reads on, through pipelines.
exec 4<&0
count() {
    i=0
    while :; do
        i=$((i + 1))
        echo $i
    done
}
count </dev/null | {
    expected=0
    echo ready
    while read -r _ <&4; do
        j=0
        while [ $j -lt 500 ]; do
            read -r n
            expected=$((expected + 1))
            j=$((j + 1))
            if [ "$n" != $expected ]; then
                echo "fail: $n came instead of $expected"
                exit 1
            fi
        done
        if [ "$(seq 1 100 | grep 5 | sort -rn | wc -l)" != 19 ]; then
            echo "fail: a pipeline"
            exit 1
        fi
        echo pass
    done
}

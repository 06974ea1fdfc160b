# faults_gpu.sh - the GPU plugins where something is missing or refuses: no loader, no driver, no device, too little memory on the device,
# an allocation or a kernel refused, a device lost; a kernel cache that cannot be used, on a full disk, damaged, somebody else's, or
# written by several at once. One line and an exit code, nothing left on the device or on the disk, or the same numbers without the cache.
# (Every call of the driver in turn: tests/models/test_gpu_faults.c.)
. "$(dirname "$0")/lib.sh"
: "${STRAND_BUILD:?the build tree}"
case_folder=$STRAND_SOURCE/tests/golden/dna/hyenadna-hf-causal
unset STRAND_VULKAN_VALIDATE
export STRAND_CACHE_DIR=
mkdir "$work/empty"

built() { [ -f "$STRAND_BUILD/backends/$1/strand-$1.so" ]; }
run() { "$STRAND" run "$case_folder" -i "$case_folder/input.safetensors" "$@"; }
# refused WHAT BACKEND TEXT COMMAND...: exit code 1, one line that says TEXT, no output file
refused() {
    local what=$1 text=$2
    shift 2
    rm -f none.safetensors
    expect 1 "$what" "$@"
    says "$text" "$what"
    [ ! -e none.safetensors ] && pass || fault "$what: left a file"
}
# goes_on WHAT COMMAND...: exit code 0 and the bytes of the run before all this
goes_on() {
    local what=$1
    shift
    rm -f again.safetensors
    expect 0 "$what" "$@" -o again.safetensors
    "$STRAND_COMPARE" tensors again.safetensors logits good.safetensors logits 0 >difference 2>&1 && pass || fault "$what: other numbers: $(cat difference)"
}

# ---- no driver, no loader ----
if built vulkan; then
    refused "Vulkan without a driver" "no Vulkan 1.1 device" env VK_ICD_FILENAMES="$work/empty/none.json" VK_DRIVER_FILES="$work/empty/none.json" \
        "$STRAND" run "$case_folder" -i "$case_folder/input.safetensors" -o none.safetensors --backend vulkan
    VK_ICD_FILENAMES=$work/empty/none.json VK_DRIVER_FILES=$work/empty/none.json "$STRAND" backends >list 2>err && grep -A1 'refused.*strand-vulkan' list | grep -q 'no Vulkan 1.1 device' &&
        pass || fault "'strand backends' does not say why there is no Vulkan"
fi
if built opencl; then
    refused "OpenCL without a driver" "no OpenCL device" env OCL_ICD_VENDORS="$work/empty" \
        "$STRAND" run "$case_folder" -i "$case_folder/input.safetensors" -o none.safetensors --backend opencl
fi
# A house of its own, whose plugins ask for a loader that is not there.
mkdir -p house/apps house/backends/cpu
cp "$STRAND" house/apps/strand
cp -L "$STRAND_BUILD"/libstrand.so.0 house/
cp "$STRAND_BUILD"/backends/cpu/strand-cpu*.so house/backends/cpu/
for b in vulkan opencl; do
    built $b || continue
    mkdir -p house/backends/$b
    sed 's/libvulkan\.so\.1/libvulkan.so.X/g; s/libOpenCL\.so\.1/libOpenCL.so.X/g' "$STRAND_BUILD/backends/$b/strand-$b.so" >house/backends/$b/strand-$b.so
    refused "$b without its loader" "\.so\.X" env -u STRAND_BACKEND_PATH LD_LIBRARY_PATH="$work/house" house/apps/strand run "$case_folder" \
        -i "$case_folder/input.safetensors" -o none.safetensors --backend $b
    expect 0 "the CPU where $b has no loader" env -u STRAND_BACKEND_PATH LD_LIBRARY_PATH="$work/house" house/apps/strand run "$case_folder" \
        -i "$case_folder/input.safetensors" -o cpu.safetensors
done

# A driver whose library is gone.
if built vulkan; then
    echo '{"file_format_version": "1.0.0", "ICD": {"library_path": "'"$work/empty/driver.so"'", "api_version": "1.3.0"}}' >gone.json
    refused "Vulkan with a driver that is gone" "no Vulkan 1.1 device" env VK_ICD_FILENAMES="$work/gone.json" VK_DRIVER_FILES="$work/gone.json" \
        "$STRAND" run "$case_folder" -i "$case_folder/input.safetensors" -o none.safetensors --backend vulkan
fi
if built opencl; then
    mkdir vendors
    echo "$work/empty/driver.so" >vendors/gone.icd
    refused "OpenCL with a driver that is gone" "no OpenCL device" env OCL_ICD_VENDORS="$work/vendors" \
        "$STRAND" run "$case_folder" -i "$case_folder/input.safetensors" -o none.safetensors --backend opencl
fi

# ---- a driver that refuses (tests/plugins/gpu_faults, preloaded) ----
# failing BACKEND SETTING... -- ARGUMENT...: 'strand run' on a driver that does what the settings say
failing() {
    local backend=$1 settings=()
    shift
    while [ "$1" != -- ]; do settings+=("$1") && shift; done
    shift
    env "${settings[@]}" LD_PRELOAD="$STRAND_BUILD/tests/plugins/gpu-faults-$backend.so" GPU_FAULT_REPORT="$work/report" \
        ASAN_OPTIONS="${ASAN_OPTIONS:-}:verify_asan_link_order=0" "$STRAND" run "$case_folder" -i "$case_folder/input.safetensors" --backend "$backend" "$@"
}
# breaks BACKEND WHAT TEXT SETTING: refused, one line that says TEXT, and every object of the driver given back
breaks() {
    rm -f report
    refused "$2 ($1)" "$3" failing "$1" "$4" -- -o none.safetensors
    is "$(cut -d ' ' -f 2 report)" 0 "$2 ($1): objects left on the device"
}
# calls BACKEND NAME: how often a run that goes well calls it
calls() {
    rm -f report
    expect 0 "a run of $1 on the way to its faults" failing "$1" "GPU_FAULT=$2 0 0" -- -o well.safetensors
    is "$(cut -d ' ' -f 2 report)" 0 "a run that goes well ($1): objects left on the device"
    n_calls=$(cut -d ' ' -f 1 report)
    [ "$n_calls" -gt 0 ] && pass || fault "$1 does not call $2"
}
# faults BACKEND ALLOCATE NO_MEMORY COMPILE REFUSED WORK LOST
faults() {
    local b=$1 k
    breaks $b "no device" "no .* device .*'strand backends'" GPU_FAULT_DEVICES=0
    breaks $b "a device smaller than the model" "'$b:0' has 0.1 MiB of memory; this plan needs .*; give a memory limit or a shorter length" GPU_FAULT_MEMORY=65536
    expect 0 "a device just large enough ($b)" failing $b GPU_FAULT_MEMORY=8388608 -- -o well.safetensors
    calls $b "$2" # the last is that of the plan's tensors, but for what a device allocates while it records
    for ((k = 1; k <= n_calls; k++)); do breaks $b "allocation $k of $n_calls refused" "out of device memory" "GPU_FAULT=$2 $k $3"; done
    calls $b "$4"
    for k in 1 $((n_calls / 2)) "$n_calls"; do
        breaks $b "kernel $k of $n_calls refused" "'$b:0' failed at .*kernel [a-z].*; use another driver or backend" "GPU_FAULT=$4 $k $5 on"
    done
    calls $b "$6"
    for k in 1 "$n_calls"; do
        breaks $b "lost at $k of $n_calls" "'$b:0' failed at .*; start again, or use another backend" "GPU_FAULT=$6 $k $7 on"
    done
}
present() { built "$1" && "$STRAND" backends 2>/dev/null | grep -q "^$1:0"; }
present vulkan && faults vulkan vkAllocateMemory -2 vkCreateComputePipelines -3 vkQueueSubmit -4
present vulkan && breaks vulkan "a shader refused" "kernel [a-z].*; use another driver or backend" "GPU_FAULT=vkCreateShaderModule 2 -1000012000 on"
# The log's line for features that are not known.
if present vulkan; then
    STRAND_VULKAN_FEATURES=nome expect 0 "features misspelt" run --backend vulkan -o features.safetensors
    is "$(grep -c "STRAND_VULKAN_FEATURES is neither 'none' nor 'all'" err)" 1 "features misspelt: one line"
    STRAND_VULKAN_FEATURES=none expect 0 "features none" run --backend vulkan -o features.safetensors
    is "$(wc -c <err)" 0 "features none: nothing to remark"
fi
present opencl && faults opencl clCreateBuffer -4 clBuildProgram -11 clEnqueueNDRangeKernel -36
present opencl && breaks opencl "one tensor too large" "in one piece at most; .*; give a memory limit or a shorter length" GPU_FAULT_LARGEST=65536

# ---- a device that is too small: each tensor fits its largest buffer, all of them do not fit its memory (PoCL can be told to have little) ----
long=$STRAND_SHARED/golden/text/rwkv7/pth-d48-n2-l130
n=1000000
if [ -d "$long" ] && built opencl && "$STRAND" backends 2>/dev/null | grep -A1 '^opencl:0' | grep -q 'Portable Computing Language'; then
    h="{\"input_ids\":{\"dtype\":\"U8\",\"shape\":[1,$n],\"data_offsets\":[0,$n]}}"
    { printf "\\x$(printf %x ${#h})\\0\\0\\0\\0\\0\\0\\0%s" "$h"; head -c $n /dev/zero; } >long.safetensors
    refused "a model larger than the device" "MiB of memory" env POCL_MEMORY_LIMIT=1 "$STRAND" run "$long" -i long.safetensors -o none.safetensors --backend opencl
else
    note "no model or no PoCL: a device that is too small is skipped"
fi

# ---- the kernel cache of OpenCL ----
if built opencl && "$STRAND" backends 2>/dev/null | grep -q '^opencl:0'; then
    run -o good.safetensors --backend opencl >/dev/null 2>&1 || fault "a run on OpenCL"
    : >file
    ln -s /dev/full full
    for place in "$work/file/cache" /dev/full "$work/full" "$work/full/cache" relative "$(printf '/%0700d' 7)"; do
        STRAND_CACHE_DIR=$place goes_on "cache at ${place:0:40}" run --backend opencl
        is "$(grep -c '^strand: kernel cache .*; give STRAND_CACHE_DIR another folder' err)" 1 "cache at ${place:0:40}: one line"
        is "$(wc -l <err)" 1 "cache at ${place:0:40}: no other line"
    done
    # A disk that is full from the start, or after a few kernels: each file is whole or is not there.
    cat >on_tiny <<'EOF'
mount -t tmpfs -o mode=700,size=$1 none tiny || exit 77
shift
"$@"
rc=$?
for f in $(ls -A tiny); do
    echo "$f" $(($(od -An -t u8 -j 8 -N 8 "tiny/$f") + $(od -An -t u8 -j 16 -N 8 "tiny/$f") + 32 - $(stat -c %s "tiny/$f")))
done >names
exit $rc
EOF
    mkdir tiny
    if unshare -Urm mount -t tmpfs none tiny 2>/dev/null; then
        for room in 4k 300k; do
            STRAND_CACHE_DIR=$work/tiny goes_on "a cache on a disk of $room" unshare -Urm bash on_tiny $room "$STRAND" run "$case_folder" \
                -i "$case_folder/input.safetensors" --backend opencl
            is "$(grep -c "^strand: kernel cache $work/tiny is not used: No space left on device" err)" 1 "a cache on a disk of $room: one line"
            is "$(wc -l <err)" 1 "a cache on a disk of $room: no other line"
            is "$(grep -cv '^opencl-[0-9a-f]* 0$' names)" 0 "a cache on a disk of $room: files that are not whole"
        done
        [ -s names ] && pass || fault "a cache on a disk of 300k holds nothing"
    else
        note "no mount for this user: a cache on a full disk is skipped"
    fi
    if [ "$(id -u)" != 0 ]; then
        mkdir -m 500 sealed
        STRAND_CACHE_DIR=$work/sealed goes_on "a cache that cannot be written" run --backend opencl
        is "$(grep -c '^strand: kernel cache' err)" 1 "a cache that cannot be written: one line"
    else
        note "root may write anywhere: a cache without the permission to write is skipped"
    fi
    mkdir -m 777 shared
    chmod 777 shared
    STRAND_CACHE_DIR=$work/shared goes_on "a cache that others may write" run --backend opencl
    says "others may write" "a cache that others may write"
    is "$(ls shared | wc -l)" 0 "a cache that others may write stays empty"

    cache=$work/cache
    export STRAND_CACHE_DIR=$cache
    goes_on "an empty cache" run --backend opencl
    is "$(wc -c <err)" 0 "an empty cache: nothing to remark"
    files=$(ls "$cache" | wc -l)
    [ "$files" -gt 5 ] && pass || fault "the cache has $files files"
    is "$(stat -c %a "$cache")" 700 "the cache's permissions"
    ls -l --time-style=full-iso "$cache" >before
    goes_on "a full cache" run --backend opencl
    ls -l --time-style=full-iso "$cache" >after
    same before after "a second start writes nothing"
    # Damage: each file another kind of it. All is compiled again, and stored again.
    cp -r "$cache" sound
    i=0
    for f in "$cache"/opencl-*; do
        size=$(stat -c %s "$f")
        case $((i % 6)) in
        0) printf '\377' | dd of="$f" bs=1 seek=$((size - 3)) conv=notrunc status=none ;;
        1) printf '\377' | dd of="$f" bs=1 seek=9 conv=notrunc status=none ;;
        2) head -c $((size / 2)) "$f" >x && cat x >"$f" ;;
        3) : >"$f" ;;
        4) rm "$f" && ln -s /etc/passwd "$f" ;;
        5) cp "$(ls "$cache"/opencl-* | head -1)" x && cat x >"$f" ;;
        esac
        i=$((i + 1))
    done
    goes_on "a damaged cache" run --backend opencl
    is "$(find "$cache" -type l | wc -l)" 0 "a link in the cache is replaced"
    ls "$cache" >names
    ls sound | cmp -s - names && pass || fault "a damaged cache is not repaired, or something was left"
    for f in sound/*; do [ "$(head -c 8 "$cache/${f#*/}")" = strandc2 ] && pass || fault "${f#*/} is not repaired"; done
    # Another user's file, and one that others may write, are not read.
    f=$(ls "$cache"/opencl-* | head -1)
    chmod 666 "$f"
    goes_on "a file that others may write" run --backend opencl
    is "$(stat -c %a "$f")" 600 "a file that others may write is replaced"
    # Several at once, from nothing.
    rm -rf "$cache"
    for i in 1 2 3; do run -o "many$i.safetensors" --backend opencl 2>"many$i.err" & done
    wait
    for i in 1 2 3; do
        [ ! -s "many$i.err" ] && "$STRAND_COMPARE" tensors "many$i.safetensors" logits good.safetensors logits 0 >/dev/null 2>&1 && pass || fault "writer $i: $(cat "many$i.err")"
    done
    is "$(ls "$cache" | grep -c '\.')" 0 "no temporary files are left"
    is "$(ls "$cache" | wc -l)" "$files" "several writers leave each file once"
fi
finish

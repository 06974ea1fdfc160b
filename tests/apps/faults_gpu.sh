# faults_gpu.sh - the GPU plugins where something is missing or refuses: no loader, no driver, too little memory on the device, a kernel
# cache that cannot be used, is full, damaged, somebody else's, or written by several at once. One line and an exit code, or the same
# numbers without the cache. (Failures inside a run: tests/models/test_gpu_faults.c.)
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
    for place in "$work/file/cache" /dev/full relative "$(printf '/%0700d' 7)"; do
        STRAND_CACHE_DIR=$place goes_on "cache at ${place:0:40}" run --backend opencl
        is "$(grep -c '^strand: kernel cache' err)" 1 "cache at ${place:0:40}: one line"
    done
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

# golden_gpu.sh - the golden cases on the GPU plugins: each within its tolerance, and every operator of it on the GPU, which the plan
# and the result's metadata prove. The smallest cases of each family; all of them with STRAND_TEST_SAMPLE=full.
#
# The software devices will do. Vulkan runs under the validation layer when STRAND_VULKAN_VALIDATE is set: a message of it is an
# error on stderr and fails the case.
# STRAND_GPU_BACKENDS names other plugins than vulkan and opencl.
. "$(dirname "$0")/lib.sh"
: "${STRAND_BUILD:?the build tree}"
golden=$STRAND_SHARED/golden
[ -d "$golden" ] || note "../shared is not here: only the cases of tests/golden run"
export STRAND_CACHE_DIR=${STRAND_CACHE_DIR:-$work/cache} # kernels of this build alone, or of this run of the suite
sample=${STRAND_TEST_SAMPLE:-ci}

# What is built and has a device.
backends=
for b in ${STRAND_GPU_BACKENDS:-vulkan opencl}; do
    [ -f "$STRAND_BUILD/backends/$b/strand-$b.so" ] || continue
    if "$STRAND" backends --backend $b >list 2>&1 && grep -q "^$b:" list; then backends="$backends $b"; else note "no $b device: its cases are skipped"; fi
done
if [ -z "$backends" ]; then
    echo "SKIP: no GPU plugin is built, or none has a device"
    exit 77
fi

# all_on BACKEND FOLDER INPUT OPTIONS...: the plan for the input's batch and length has no node elsewhere; of tokens, nor that of a step
all_on() {
    local backend=$1 folder=$2 input=$3 shape batch length lengths
    shift 3
    shape=$("$STRAND_COMPARE" shape "$folder/input.safetensors" "$input")
    IFS='[,]' read -r _ batch lengths _ <<<"$shape"
    [ "$input" = input_ids ] && lengths="$lengths 1"
    for length in $lengths; do
        expect 0 "plan $folder $backend $length" "$STRAND" plan "${weights:-$folder}" --batch "$batch" --length "$length" --backend "$backend" --tsv "$@"
        awk -F'\t' -v b="$backend:" 'NR > 1 { n++; if (index($3, b) != 1) { print $1, $2, $3, $4; bad = 1 } } END { exit bad || !n }' out >elsewhere &&
            pass || fault "$folder $*, length $length: not on $backend: $(head -3 elsewhere)"
    done
}

# on_gpu WHEN FOLDER INPUT "TENSOR:TOLERANCE ..." OPTIONS...: WHEN is ci or full; FOLDER is below tests/golden or ../shared/golden; `weights`
# may name others than the folder's. A tensor named NAME=OTHER is compared with the expected OTHER.
n_cases=0 n_absent=0
on_gpu() {
    local when=$1 folder=$STRAND_SOURCE/tests/golden/$2 input=$3 tensors=$4 b t have
    [ -d "$folder" ] || folder=$golden/$2
    shift 4
    [ "$when" = full ] && [ "$sample" != full ] && return
    if [ ! -d "$folder" ]; then
        n_absent=$((n_absent + 1))
        return
    fi
    n_cases=$((n_cases + 1))
    for b in $backends; do
        rm -f out.safetensors
        expect 0 "run $folder $b $*" "$STRAND" run "${weights:-$folder}" -i "$folder/input.safetensors" -o out.safetensors --backend "$b" "$@"
        grep -q 'Validation' err && fault "$folder $b: $(grep -c Validation err) messages of the validation layer: $(grep -m1 Validation err | cut -c1-600)"
        for t in $tensors; do
            have=${t%:*}
            "$STRAND_COMPARE" tensors out.safetensors "${have%=*}" "$folder/expected.safetensors" "${have#*=}" "${t#*:}" >difference 2>&1 && pass ||
                fault "$folder $b $*: $have: $(cat difference)"
        done
        head -c 4096 out.safetensors | grep -aqE "\"backend\": ?\"$b:[0-9]+\"" && pass || fault "$folder $b $*: some operator ran elsewhere"
        all_on "$b" "$folder" "$input" "$@"
    done
}

# DNA
on_gpu ci "dna/hyenadna-hf-causal" input_ids "logits:1e-4 hidden:1e-4"
on_gpu ci "dna/hyenadna-d32-n2-l256-ckpt" input_ids "logits:1e-4 hidden:1e-4"
on_gpu full "dna/hyenadna-d32-n2-l333-classifier" input_ids "class_logits:1e-4 hidden:1e-4"
on_gpu full "dna/hyenadna-d64-n3-l1000-odd" input_ids "logits:1e-4"

# Text: the README's largest difference of the logits
on_gpu ci "text/llama/gqa-d48-n3-l96-sharded-tied" input_ids "logits:7e-4"
on_gpu full "text/llama/gqa-d48-n2-l65" input_ids "logits:2e-4 hidden:2e-4"
on_gpu ci "text/mamba1/orig-d32-n2-l64" input_ids "logits:3e-4 hidden:3e-4"
on_gpu full "text/mamba1/hf-d48-n3-l301" input_ids "logits:6e-4"
on_gpu ci "text/mamba2/orig-d64-n2-l101-g2" input_ids "logits:3e-4"
on_gpu full "text/mamba2/hf-d48-n2-l101" input_ids "logits:2e-4"
on_gpu full "text/gpt_neox/parallel-d48-n2-l90-buffers" input_ids "logits:2e-4"
on_gpu ci "text/griffin/hf-d48-n3-l90-w32" input_ids "logits:3e-4"
on_gpu ci "text/based/d32-n3-l96" input_ids "logits:2e-4"
on_gpu full "text/retnet/fla-d48-n2-l110" input_ids "logits:2e-4"
on_gpu ci "text/rwkv6/pth-d48-n2-l101" input_ids "logits:2e-4"
on_gpu ci "text/rwkv7/pth-d48-n2-l130" input_ids "logits:2e-4"
case " $backends " in # the emulated driver says when kernels that should have run did not
*" cuda "*)
    folder=$STRAND_SOURCE/tests/golden/text/rwkv7/pth-d48-n2-l130
    EMULATED_CUDA_EXPECT=delta_prepare_64,delta_walk_64 expect 0 "the delta rule on tensor cores" "$STRAND" run "$folder" -i "$folder/input.safetensors" -o out.safetensors --backend cuda
    ;;
esac
on_gpu ci "text/h3/pt-d32-n3-l100" input_ids "logits:1e-3"
on_gpu ci "text/stripedhyena/hf-d48-n3-l101" input_ids "logits:8e-4"

# Weights and caches in F16: what that costs on these cases (docs/gpu.md), and nothing leaves the GPU
on_gpu ci "dna/hyenadna-d64-n3-l1000-odd" input_ids "logits:5e-3" --set precision=f16
on_gpu ci "text/llama/gqa-d48-n3-l96-sharded-tied" input_ids "logits:4e-2" --set precision=f16
on_gpu full "text/mamba1/orig-d32-n2-l64" input_ids "logits:6e-2" --set precision=f16
on_gpu full "text/rwkv7/pth-d48-n2-l130" input_ids "logits:1e-1" --set precision=f16

# Time series: layers of the S4 family, by convolution and by recurrence
on_gpu ci "series/s4-dplr-bidirectional" x "output:5e-4"
on_gpu ci "series/lru" x "output:1e-4" --set mode=recurrence
on_gpu ci "series/s4-legt-rank2" x "output:5e-4 kernel:5e-4"
on_gpu ci "series/s4-legt-rank2" x "output:1e-4" --set mode=recurrence
on_gpu full "series/s4-dplr-bidirectional" x "output:1e-4" --set mode=recurrence

if [ -d "$golden" ]; then # their weights, or they themselves, are not beside the tests
    on_gpu full "dna/hyenadna-lightning-ckpt" input_ids "logits:1e-4 hidden:1e-4"
    on_gpu full "dna/evo1-small" input_ids "logits:1e-3"
    on_gpu full "dna/evo2-small" input_ids "logits:1e-3"
    eeg=$golden/eeg/dcrnn-detection-sz1
    weights=$eeg/$(sed -n 's/.*"weights": *"\([^"]*\)".*/\1/p' "$eeg/config.json")
    on_gpu ci eeg/dcrnn-detection-sz1 features_in "logits:1e-4" --config "$eeg/config.json"
    unset weights
    on_gpu ci timeseries/spacetime-small window "forecast:2e-3 model_output:2e-3" --set mode=recurrence
fi

# The published tiny model, whose expected values hold several runs.
mt=$golden/dna/hyenadna-tiny-1k-mt tiny=$STRAND_SHARED/data/dna/hyenadna-tiny-1k
if [ "$sample" = full ] && [ -d "$mt" ] && [ -d "$tiny" ]; then
    for n in 1024 900; do
        "$STRAND_COMPARE" adapt "$mt/input.safetensors" ids_$n in.safetensors && pass || fault "adapter, $n"
        n_cases=$((n_cases + 1))
        for b in $backends; do
            expect 0 "run $tiny $n $b" "$STRAND" run "$tiny" -i in.safetensors -o out.safetensors --set shift=0.05 --backend "$b"
            "$STRAND_COMPARE" tensors out.safetensors logits "$mt/expected.safetensors" logits_${n}_shift0.05 1e-4 && pass || fault "$tiny $n $b: logits"
            head -c 4096 out.safetensors | grep -aqE "\"backend\": ?\"$b:[0-9]+\"" && pass || fault "$tiny $n $b: some operator ran elsewhere"
        done
    done
fi
note "$n_cases cases on$backends"
[ $n_absent = 0 ] || note "$n_absent cases are not here: skipped"

# Whole scripts of golden cases with every run sent to a GPU; what ran elsewhere is kept in a file.
elsewhere() {
    local area=$1 b=$2
    : >"$work/elsewhere"
    cat >"$work/strand" <<SH
#!/usr/bin/env bash
[ "\$1" = run ] || exec "$STRAND" "\$@"
"$STRAND" "\$@" --backend $b || exit
while [ \$# -gt 1 ]; do [ "\$1" = -o ] && out=\$2; shift; done
head -c 16384 "\$out" | grep -aqE '"backend": ?"$b:[0-9]+"' || head -c 16384 "\$out" | grep -aoE '"backend": ?"[^"]*"' >>"$work/elsewhere"
SH
    chmod +x "$work/strand"
    STRAND=$work/strand TMPDIR=$work bash "$here/$area.sh" >area.log 2>&1 && pass || fault "$area.sh on $b: $(grep -m3 FAIL area.log)"
    tail -n 1 area.log
    [ ! -s "$work/elsewhere" ] && pass || fault "$area.sh on $b: $(wc -l <"$work/elsewhere") runs used others too: $(sort "$work/elsewhere" | uniq -c | head -3)"
}
if [ "$sample" = full ]; then
    for b in $backends; do
        for area in golden_series golden_eeg; do elsewhere $area "$b"; done
    done
fi

# That messages of the layer would be seen: it has some to give when it is asked for advice.
if [ "${STRAND_VULKAN_VALIDATE:-}" = 1 ] && [[ $backends = *vulkan* ]]; then
    first=$STRAND_SOURCE/tests/golden/dna/hyenadna-hf-causal
    VK_LAYER_ENABLES=VK_VALIDATION_FEATURE_ENABLE_BEST_PRACTICES_EXT "$STRAND" run "$first" -i "$first/input.safetensors" \
        -o out.safetensors --backend vulkan >out 2>err
    says 'Validation.*Warning' "advice of the validation layer"
fi
finish

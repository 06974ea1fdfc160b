# golden.sh - numbers of the published code through the command: the HyenaDNA cases by `strand run`, on the CPU and mixed with the
# test plugin faraway; the real model's case by an adapter (it holds several runs); per-base likelihoods by `strand dna score`.
. "$(dirname "$0")/lib.sh"
faraway=${STRAND_BUILD:+$STRAND_BUILD/tests/plugins/faraway}

# run_case FOLDER OPTIONS...: every expected tensor within 1e-4
run_case() {
    local folder=$1 compared=0 t
    shift
    expect 0 "run $folder $*" "$STRAND" run "$folder" -i "$folder/input.safetensors" -o out.safetensors "$@"
    for t in hidden hidden_f64 logits class_logits; do
        "$STRAND_COMPARE" shape "$folder/expected.safetensors" $t >/dev/null 2>&1 || continue
        "$STRAND_COMPARE" tensors out.safetensors ${t%_f64} "$folder/expected.safetensors" $t 1e-4 && compared=$((compared + 1)) || fault "$folder $*: $t"
    done
    [ $compared -gt 0 ] && pass || fault "$folder: nothing was compared"
}

both_ways() {
    run_case "$1"
    if [ -n "$faraway" ] && [ -f "$faraway/strand-faraway.so" ]; then
        run_case "$1" --backend faraway,cpu --plugins "$faraway"
        "$STRAND" plan "$1" --length 64 --backend faraway,cpu --plugins "$faraway" | grep -q ' faraway ' && pass || fault "$1: nothing ran on faraway"
    else
        fault "the test plugin faraway is not built"
    fi
}

for folder in "$STRAND_SOURCE"/tests/golden/dna/*/; do both_ways "${folder%/}"; done

golden=$STRAND_SHARED/golden/dna
data=$STRAND_SHARED/data/dna
if [ ! -d "$golden" ]; then
    note "../shared is not here: the real model and the other cases are skipped"
    finish
    exit
fi
both_ways "$golden/hyenadna-lightning-ckpt"

# what the tokens are worth, from any model's logits
for evo in evo1-small evo2-small; do
    expect 0 "logprob of $evo" "$STRAND" run "$golden/$evo" -i "$golden/$evo/input.safetensors" -o out.safetensors --outputs hidden,logprob
    "$STRAND_COMPARE" tensors out.safetensors logprob "$golden/$evo/expected.safetensors" logprob 1e-3 && pass || fault "$evo: logprob"
done

mt=$golden/hyenadna-tiny-1k-mt
for shift in 0.05 0.0; do
    for n in 1024 900; do
        "$STRAND_COMPARE" adapt "$mt/input.safetensors" ids_$n in.safetensors && pass || fault "adapter, $n"
        expect 0 "run mt $n $shift" "$STRAND" run "$data/hyenadna-tiny-1k" -i in.safetensors -o out.safetensors --set shift=$shift
        "$STRAND_COMPARE" tensors out.safetensors logits "$mt/expected.safetensors" logits_${n}_shift$shift 1e-4 && pass || fault "mt: logits $n $shift"
        if "$STRAND_COMPARE" shape "$mt/expected.safetensors" hidden_${n}_shift$shift >/dev/null 2>&1; then
            "$STRAND_COMPARE" tensors out.safetensors hidden "$mt/expected.safetensors" hidden_${n}_shift$shift 1e-4 && pass || fault "mt: hidden $n $shift"
        else
            "$STRAND_COMPARE" every 16 out.safetensors hidden "$mt/expected.safetensors" hidden_every16_${n}_shift$shift 1e-4 && pass ||
                fault "mt: hidden $n $shift"
        fi
    done
done

perbase=$golden/hyenadna-tiny-1k-perbase-mt-human/expected.safetensors
for shift in 0.05 0.0; do
    expect 0 "score, shift $shift" "$STRAND" dna score -m "$data/hyenadna-tiny-1k" --set shift=$shift --overlap 0 --soft-mask keep \
        --softmax 16 -f tsv -o mt.tsv "$data/fasta/MT-human.fa"
    "$STRAND_COMPARE" column mt.tsv 3 "$perbase" loglik_shift$shift 2e-4 && pass || fault "per-base, shift $shift"
done
expect 0 "score over ACGT" "$STRAND" dna score -m "$data/hyenadna-tiny-1k" --overlap 0 --soft-mask keep -f tsv -o mt.tsv "$data/fasta/MT-human.fa"
"$STRAND_COMPARE" column mt.tsv 3 "$perbase" loglik_acgt_shift0.05 2e-4 && pass || fault "per-base over ACGT"
"$STRAND" dna score -q -m "$data/hyenadna-tiny-1k" --no-version --overlap 0 --soft-mask keep --softmax 16 "$data/fasta/MT-human.fa" >sum
want=$(awk -F'|' '/^\| NLL, whole MT-human/ { printf "%.9f", $3 }' "$data/hyenadna-tiny-1k/GOLDEN.md")
awk -F'\t' -v want="$want" 'NR == 2 { d = $4 + want; exit !(want > 1 && $3 == 16552 && d < 2e-6 && d > -2e-6) }' sum && pass ||
    fault "NLL of the whole genome: $(tail -1 sum), want $want"
finish

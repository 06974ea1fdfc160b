# golden.sh - numbers of the published code: per-base log-likelihoods of the human mitochondrion, and all HyenaDNA cases by `strand run`.
. "$(dirname "$0")/lib.sh"
golden=$STRAND_SHARED/golden/dna
data=$STRAND_SHARED/data/dna
if [ ! -d "$golden" ] || [ -z "${STRAND_COMPARE:-}" ]; then
    echo "SKIP: ../shared is not here"
    exit 77
fi
for shift in 0.05 0.0; do
    expect 0 "score, shift $shift" "$STRAND" dna score -m "$data/hyenadna-tiny-1k" --set shift=$shift --overlap 0 --soft-mask keep \
        --softmax 16 -f tsv -o mt.tsv "$data/fasta/MT-human.fa"
    "$STRAND_COMPARE" column mt.tsv 3 "$golden/hyenadna-tiny-1k-perbase-mt-human/expected.safetensors" loglik_shift$shift 2e-4 && pass ||
        fault "per-base, shift $shift"
done
expect 0 "score over ACGT" "$STRAND" dna score -m "$data/hyenadna-tiny-1k" --overlap 0 --soft-mask keep -f tsv -o mt.tsv "$data/fasta/MT-human.fa"
"$STRAND_COMPARE" column mt.tsv 3 "$golden/hyenadna-tiny-1k-perbase-mt-human/expected.safetensors" loglik_acgt_shift0.05 2e-4 && pass ||
    fault "per-base over ACGT"
"$STRAND" dna score -q -m "$data/hyenadna-tiny-1k" --no-version --overlap 0 --soft-mask keep --softmax 16 "$data/fasta/MT-human.fa" >sum
awk -F'\t' 'NR == 2 { d = $4 + 1.379172372; exit !($3 == 16552 && d < 2e-5 && d > -2e-5) }' sum && pass || fault "NLL of the whole genome: $(tail -1 sum)"
for case in hyenadna-d32-n2-l256-ckpt hyenadna-d32-n2-l333-classifier hyenadna-d64-n3-l1000-odd hyenadna-hf-causal hyenadna-lightning-ckpt; do
    expect 0 "run $case" "$STRAND" run "$golden/$case" -i "$golden/$case/input.safetensors" -o out.safetensors
    compared=0
    for t in hidden hidden_f64 logits class_logits; do
        "$STRAND_COMPARE" shape "$golden/$case/expected.safetensors" $t >/dev/null 2>&1 || continue
        "$STRAND_COMPARE" tensors out.safetensors ${t%_f64} "$golden/$case/expected.safetensors" $t 1e-4 && compared=$((compared + 1)) || fault "$case: $t"
    done
    [ $compared -gt 0 ] && pass || fault "$case: nothing was compared"
done
finish

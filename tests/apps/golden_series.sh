# golden_series.sh - time series through `strand run`: SpaceTime's published code in its three ways (convolution, recurrence, the horizon
# as one matrix), each within the tolerance of the case's README.
. "$(dirname "$0")/lib.sh"

golden=$STRAND_SHARED/golden/timeseries
if [ ! -d "$golden" ]; then
    note "../shared is not here: the time series cases are skipped"
    finish
    exit
fi

# spacetime CASE TOLERANCE: every expected tensor; the encoder's output is expected of the first window alone
spacetime() {
    local folder=$golden/$1 tolerance=$2 mode t
    local weights=$folder
    [ "$1" = spacetime-etth1-720-trained ] && weights=$STRAND_SHARED/data/timeseries/spacetime-etth1-720/spacetime-etth1-720.pth
    for mode in conv recurrence matrix; do
        expect 0 "run $1 $mode" "$STRAND" run "$weights" --config "$folder/config.json" -i "$folder/input.safetensors" -o out.safetensors --set mode=$mode
        for t in forecast model_output; do
            "$STRAND_COMPARE" tensors out.safetensors $t "$folder/expected.safetensors" $t "$tolerance" && pass || fault "$1 $mode: $t"
        done
        "$STRAND_COMPARE" prefix out.safetensors encoder_output "$folder/expected.safetensors" encoder_output "$tolerance" && pass ||
            fault "$1 $mode: encoder_output"
    done
}

spacetime spacetime-small 2e-3
spacetime spacetime-multivariate 2e-3
spacetime spacetime-etth1-720-random 2e-3
spacetime spacetime-etth1-720-trained 1e-4
finish

# golden_series.sh - time series through `strand run`: SpaceTime's published code in its three ways (convolution, recurrence, the horizon
# as one matrix), and single layers of the S4 family by convolution and by recurrence, each within the tolerance of the case's README.
. "$(dirname "$0")/lib.sh"

golden=$STRAND_SHARED/golden/timeseries

# layer FOLDER: whatever is expected of output, filter and states. A recurrence has no filter; a softmax over the positions needs to know how
# many there are.
layer() {
    local folder=$1 name tolerance mode t
    name=$(basename "$folder")
    tolerance=1e-4
    for mode in conv recurrence; do
        case $name:$mode in
        s4-*:conv | s4d-bilinear:conv | s4d-zoh:conv | liquid-*) tolerance=5e-4 ;;
        esac
        set -- --set mode=$mode
        [ "$name:$mode" = dss-softmax:recurrence ] && set -- "$@" --set l_max=512
        expect 0 "run $name $mode" "$STRAND" run "$folder" -i "$folder/input.safetensors" -o out.safetensors "$@"
        for t in output kernel final_state final_state_re final_state_im lru_output output_without_liquid; do
            "$STRAND_COMPARE" shape "$folder/expected.safetensors" $t >/dev/null 2>&1 || continue
            [ $mode:$t = recurrence:kernel ] && continue
            "$STRAND_COMPARE" tensors out.safetensors $t "$folder/expected.safetensors" $t $tolerance && pass || fault "$name $mode: $t"
        done
        tolerance=1e-4
    done
}

for folder in "$STRAND_SOURCE"/tests/golden/series/*/; do layer "${folder%/}"; done

if [ ! -d "$golden" ]; then
    note "../shared is not here: SpaceTime and the other layers are skipped"
    finish
    exit
fi
for folder in "$golden"/layers/*/; do layer "${folder%/}"; done

# Liquid-S4 as a stream is the published step(): plain S4
for folder in "$golden"/layers/liquid-*/; do
    expect 0 "stream of $folder" "$STRAND" run "$folder" -i "$folder/input.safetensors" -o out.safetensors --set mode=recurrence --set liquid=0
    "$STRAND_COMPARE" tensors out.safetensors output "$folder/expected.safetensors" output_without_liquid 1e-4 && pass || fault "$folder: liquid=0"
done

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

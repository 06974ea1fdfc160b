# eeg.sh - recordings: what is odd in a file is named and read; nothing about a patient gets out; the published prediction errors; events
# as tables, JSON and EDF+; reports; scoring; streams give what files give; bad input is one line.
. "$(dirname "$0")/lib.sh"
seeds=$STRAND_SOURCE/tests/fuzz/corpus/recording

# ---- info ----
info() { "$STRAND" eeg info "$@" 2>&1; }
holds() { # TEXT WHAT FILE...
    local text=$1 what=$2
    shift 2
    info "$@" >out 2>&1
    grep -q -- "$text" out && pass || fault "$what: eeg info does not say '$text': $(head -c 300 out)"
}
holds 'format      EDF+C' 'EDF+C' "$seeds/edf_plus_c"
holds 'in 2 spans, 58.000 s of gaps' 'gaps' "$seeds/edf_plus_d"
holds 'does not say how many data records' 'count -1' "$seeds/edf_unknown_count"
holds 'claims 99 data records, 3 are complete' 'wrong count' "$seeds/edf_wrong_count"
holds '3 bytes after the last complete' 'tail' "$seeds/edf_tail"
holds 'EEG Fü1' 'Latin-1 label' "$seeds/edf_latin1"
holds 'range is empty' 'empty range' "$seeds/edf_zero_range"
holds 'range is inverted' 'inverted range' "$seeds/edf_inverted"
holds 'format      BDF' 'BDF' "$seeds/bdf"
holds 'lasts 0 s' 'record of 0 s' "$seeds/edf_zero_duration"
holds 'FP1  ' 'electrode' "$seeds/edf_plain"
holds '"annotations": 1' 'JSON' "$seeds/edf_plus_c" -f json
holds '1.500	0.250	note' 'annotations' "$seeds/edf_plus_c" --annotations
holds '100 uV' 'MAT with its own rate and names' "$seeds/mat_all"
expect 1 'huge claim' "$STRAND" eeg info "$seeds/edf_huge_claim"
says 'claims records of' 'huge claim'
expect 1 'only annotations' "$STRAND" eeg info "$seeds/edf_only_annotations"
expect 1 'records that overlap' "$STRAND" eeg info "$seeds/edf_overlap"
says 'time stamps' 'overlap'
expect 1 'no record' "$STRAND" eeg info "$seeds/edf_header_only"
expect 1 'short header' "$STRAND" eeg info "$seeds/edf_short"
expect 1 'MAT without a rate' "$STRAND" eeg info "$seeds/mat_zlib"
says '--rate' 'no rate'
expect 1 'cut MAT' "$STRAND" eeg info "$seeds/mat_truncated" --rate 100
expect 1 'MAT larger than allowed' "$STRAND" eeg info "$seeds/mat_bomb" --rate 100 --memory 64K
expect 1 'empty file' "$STRAND" eeg info "$seeds/empty"
expect 1 'another file' "$STRAND" eeg info "$seeds/other"
expect 1 'no file' "$STRAND" eeg info nowhere.edf
expect 1 'a folder' "$STRAND" eeg info .
expect 2 'no such command' "$STRAND" eeg nonsense

# ---- BrainVision ----
printf 'Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nDataFile=bv.eeg\nMarkerFile=bv.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=2\nSamplingInterval=5000\n[Binary Infos]\nBinaryFormat=INT_16\n[Channel Infos]\nCh1=Fp1,,0.5,µV\nCh2=Cz,,0.5,µV\n' >bv.vhdr
printf 'Brain Vision Data Exchange Marker File, Version 1.0\n[Marker Infos]\nMk1=New Segment,,1,1,0,20200101120000000000\nMk2=Stimulus,S  1,101,1,0\nMk3=New Segment,,401,1,0,20200101120010000000\n' >bv.vmrk
head -c 3200 /dev/zero >bv.eeg
holds 'in 2 spans, 8.000 s of gaps' 'BrainVision segments' bv.vhdr
holds 'flat 100' 'flat signal' bv.vhdr
holds '0.500	n/a	Stimulus/S  1' 'BrainVision marker' bv.vhdr --annotations
printf 'Brain Vision\n[Common Infos]\nNumberOfChannels=2\nSamplingInterval=5000\nDataFile=../../etc/passwd\n[Binary Infos]\nBinaryFormat=INT_16\n' >out.vhdr
expect 1 'BrainVision that points elsewhere' "$STRAND" eeg info out.vhdr

# ---- scoring, on a case worked out by hand ----
table() { # ROWS...: onset, duration, type
    printf 'onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n'
    local row
    for row in "$@"; do printf '%s\tn/a\tn/a\t2020-01-01 00:00:00\t3600.00\n' "$row"; done
}
table '100.00	50.00	sz' '2000.00	400.00	sz_foc' >ref.tsv
table '120.00	20.00	sz' '3000.00	10.00	sz' >found.tsv
expect 0 'score' "$STRAND" eeg score ref.tsv found.tsv
is "$(tr '\t\n' '  ' <out)" 'scoring reference found false sensitivity precision f1 false_per_24h sample 450 20 10 0.0444 0.6667 0.0833 240.0000 event 3 1 1 0.3333 0.5000 0.4000 24.0000 ' 'score'
table '0.00	3600.00	bckg' >none.tsv
expect 0 'score of nothing' "$STRAND" eeg score ref.tsv none.tsv -f json
grep -q '"precision": null' out && pass || fault 'score of nothing: no null'
expect 1 'score without a table' "$STRAND" eeg score ref.tsv /dev/null
expect 1 'score of another table' "$STRAND" eeg score ref.tsv bv.vmrk

data=$STRAND_SHARED/data/eeg
if [ ! -d "$data" ]; then
    note "../shared is not here: recordings and published models are skipped"
    finish
    exit
fi
clips=$data/iiic-sparcnet
ssl=$data/eeg-gnn-ssl
distance=$ssl/pretrained_distance_graph_12s.pth.tar
mat='--rate 200 --channels iiic-sparcnet'

# ---- the published prediction errors: 1e-4 from MAT, 5e-4 from EDF ----
errors() { # TOLERANCE ROW WANT... : column mae of these rows of out
    local tolerance=$1
    shift
    awk -F'\t' -v t="$tolerance" -v want="$*" 'BEGIN { n = split(want, w, " ") } !/^#/ && $1 != "start" { for (i = 1; i <= n; i += 2) if ($1 == w[i]) { d = $4 - w[i + 1]; if (d < 0) d = -d; if (d > t) bad = 1; seen++ } }
        END { exit bad || seen != n / 2 }' out && pass || fault "prediction errors: $(grep -v '^#' out | cut -f1,4 | tr '\n\t' '; ')"
}
expect 0 'predict SZ1, MAT' "$STRAND" eeg predict -q -m "$distance" "$clips/SZ_sample1.mat" $mat
errors 1e-4 0.00 0.603427 12.00 0.574071 24.00 0.586148
expect 0 'predict SZ1, EDF' "$STRAND" eeg predict -q -m "$distance" "$clips/SZ_sample1.edf"
errors 5e-4 0.00 0.603427 12.00 0.574071 24.00 0.586148
for batch in 1 3; do
    "$STRAND" eeg predict -q --no-version -m "$distance" "$clips/SZ_sample1.edf" --batch $batch >batch$batch
done
same batch1 batch3 'batches change nothing'
expect 0 'the seconds ahead' "$STRAND" eeg predict -q --no-version -m "$distance" "$clips/SZ_sample1.edf" --predictions p.safetensors
is "$(tail -1 out | cut -f1-4 | tr '\t' ' ')" '38.00 50.00 12 n/a' 'the seconds ahead'
is "$("$STRAND" inspect p.safetensors | grep -c '4, 12, 19, 100\|4 12 19 100\|4x12x19x100')" 1 'predictions of four windows'
expect 0 'predict SZ2, MAT' "$STRAND" eeg predict -q -m "$ssl/pretrained_correlation_graph_12s.pth.tar" "$clips/SZ_sample2.mat" $mat
errors 1e-4 0.00 0.704716 24.00 0.768471
expect 0 'predict SZ2, EDF' "$STRAND" eeg predict -q -m "$ssl/pretrained_correlation_graph_12s.pth.tar" "$clips/SZ_sample2.edf"
errors 5e-4 0.00 0.704716 24.00 0.768471
expect 0 'predict LPD1' "$STRAND" eeg predict -q -m "$ssl/pretrained_distance_graph_60s.pth.tar" "$clips/LPD_sample1.mat" $mat --clip 38
errors 1e-4 0.00 0.552190
expect 1 'predict, too short' "$STRAND" eeg predict -q -m "$ssl/pretrained_distance_graph_60s.pth.tar" "$clips/LPD_sample1.mat" $mat
says '--clip' 'too short'

# ---- detection ----
expect 0 'detect' "$STRAND" eeg detect -q -m "$distance" "$clips/SZ_sample1.edf" -o events.tsv --edf events.edf --report report.html --windows seconds.tsv
is "$(head -1 events.tsv)" 'onset	duration	eventType	confidence	channels	dateTime	recordingDuration' 'columns of SzCORE'
awk -F'\t' 'NR > 1 && (NF != 7 || $1 !~ /^[0-9]+\.[0-9][0-9]$/ || $3 != "sz" || $7 != "50.00") { exit 1 } END { exit NR < 2 }' events.tsv && pass || fault "events: $(cat events.tsv)"
expect 0 'events as annotations' "$STRAND" eeg info --annotations events.edf
is "$(awk -F'\t' 'NR == 2 { printf "%.2f %.2f", $1, $2 }' out)" "$(awk -F'\t' 'NR == 2 { print $1, $2 }' events.tsv)" 'events as annotations'
expect 0 'scored against itself' "$STRAND" eeg score events.tsv events.tsv
grep -q '^event	1	1	0	1.0000	1.0000	1.0000	0.0000' out && pass || fault "scored against itself: $(cat out)"
expect 0 'nothing found' "$STRAND" eeg detect -q -m "$distance" "$clips/SZ_sample1.edf" -t 1 --no-date
is "$(sed 1d out)" '0.00	50.00	bckg	n/a	n/a	1925-01-01 00:00:00	50.00' 'background row'
expect 0 'JSON Lines' "$STRAND" eeg detect -q -m "$distance" "$clips/SZ_sample1.edf" -f jsonl
grep -q '^{"onset": [0-9.]*, "duration": [0-9.]*, "eventType": "sz", "confidence": 0\.[0-9]*, "channels": \["' out && pass || fault "JSON Lines: $(cat out)"
golden=$STRAND_SHARED/golden/eeg/dcrnn-detection-sz1
expect 0 'a checkpoint with its own head' "$STRAND" eeg detect -q -m "$golden" "$clips/SZ_sample1.edf"

# A classifier of four kinds: alone it calls every second one of them, with --kinds it names the events of a detector.
"$STRAND_EEG_ADAPT" classes "$golden/best.pth.tar" 4 kinds.safetensors && pass || fault 'a head of four classes'
expect 0 'four kinds' "$STRAND" eeg detect -q -m kinds.safetensors "$clips/SZ_sample1.edf" --windows kinds.tsv
awk -F'\t' 'NR == 1 { exit $0 != "onset\tprobability\tsz_foc\tsz_gen\tsz_gen_nm\tsz_gen_m" }' kinds.tsv && pass || fault "kinds: $(head -1 kinds.tsv)"
awk -F'\t' 'NR > 1 { d = $3 + $4 + $5 + $6 - 1; m = $3; for (i = 4; i < 7; i++) if ($i > m) m = $i; if (d * d > 1e-10 || $2 != m) bad = 1 } END { exit bad || NR != 49 }' kinds.tsv && pass || fault "kinds: $(head -3 kinds.tsv)"
is "$(sed 1d out | cut -f1-3,7 | tr '\t' ' ')" '0.00 48.00 sz_gen 50.00' 'four kinds'
"$STRAND_EEG_ADAPT" classes "$golden/best.pth.tar" 6 six.safetensors && pass || fault 'a head of six classes'
expect 0 'kinds that change' "$STRAND" eeg detect -q -m six.safetensors "$clips/SZ_sample1.edf" --types k1,k2,k3,k4,k5,k6 --clip 3 --step 1 --min-duration 1 --windows kinds.tsv
awk -F'\t' 'FNR == 1 { for (i = 3; i <= NF; i++) name[i] = $i; next } FILENAME == "kinds.tsv" { best = 3; for (i = 4; i <= NF; i++) if ($i > $best) best = i; type[int($1)] = name[best]; next }
    { for (t = int($1); t < $1 + $2; t++) { if (type[t] != $3) bad = 1; n++ } rows++ } END { exit bad || n != 50 || rows < 3 }' kinds.tsv out && pass || fault "events of kinds: $(cat out)"
expect 0 'kinds with a background' "$STRAND" eeg detect -q -m kinds.safetensors "$clips/SZ_sample1.edf" --types a,bckg,b,c --min-duration 1
is "$(sed 1d out | cut -f1-3)" "0.00	50.00	bckg" 'kinds with a background'
expect 2 'types of too many classes' "$STRAND" eeg detect -q -m kinds.safetensors "$clips/SZ_sample1.edf" --types a,b
says 'has 4 classes, --types names 2' 'too few types'
expect 2 'types with blanks' "$STRAND" eeg detect -q -m kinds.safetensors "$clips/SZ_sample1.edf" --types 'a,b c,d,e'
"$STRAND_EEG_ADAPT" classes "$golden/best.pth.tar" 3 three.safetensors
expect 2 'three classes without names' "$STRAND" eeg detect -q -m three.safetensors "$clips/SZ_sample1.edf"
expect 0 'kinds of events' "$STRAND" eeg detect -q -m "$distance" --kinds kinds.safetensors "$clips/SZ_sample1.edf" --report kinds.html --edf kinds.edf
is "$(cut -f1,2,4,5 out)" "$(cut -f1,2,4,5 events.tsv)" 'kinds change nothing but the type'
awk -F'\t' 'NR > 1 && $3 !~ /^sz_/ { exit 1 } END { exit NR < 2 }' out && pass || fault "kinds of events: $(cat out)"
expect 1 'kinds of a detector' "$STRAND" eeg detect -q -m "$distance" --kinds "$golden" "$clips/SZ_sample1.edf"
expect 1 'the built-in head on another encoder' "$STRAND" eeg detect -q -m "$ssl/pretrained_distance_graph_60s.pth.tar" --clip 12 "$clips/SZ_sample1.edf"
says '--head' 'another encoder'

# GraphS4mer on its golden clip, as a BrainVision file of floats: the logit is 2.51977
golden=$STRAND_SHARED/golden/eeg/graphs4mer-tusz-2000
header=$(od -An -tu8 -N8 "$golden/input.safetensors" | tr -d ' ')
tail -c +$((9 + header)) "$golden/input.safetensors" >x.eeg
printf 'Brain Vision\n[Common Infos]\nDataFile=x.eeg\nDataOrientation=VECTORIZED\nNumberOfChannels=19\nSamplingInterval=5000\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n' >x.vhdr
n=0
for c in FP1 FP2 F3 F4 C3 C4 P3 P4 O1 O2 F7 F8 T3 T4 T5 T6 FZ CZ PZ; do
    n=$((n + 1))
    printf 'Ch%d=%s,,,µV\n' $n $c >>x.vhdr
    printf '%s\t0\t1\n' $c >>x.stat
done
expect 0 'GraphS4mer' "$STRAND" eeg detect -q -m "$golden" x.vhdr --statistics x.stat --windows x.tsv
awk -F'\t' 'NR > 1 { d = $2 - 0.925516; if (d < 0) d = -d; if (d > 2e-4) bad = 1 } END { exit bad || NR != 11 }' x.tsv && pass || fault "GraphS4mer: $(head -2 x.tsv)"
head -5 x.stat >short.stat
expect 1 'statistics of too few channels' "$STRAND" eeg detect -q -m "$golden" x.vhdr --statistics short.stat
expect 1 'a model of signals does not predict' "$STRAND" eeg predict -q -m "$golden" x.vhdr

# ---- the report: one file, no network, the warning in it ----
grep -q 'Not a medical device' report.html && pass || fault 'report: no warning'
grep -E -q '(src|href)="?https?:|<script|@import|url\(' report.html && fault 'report: it wants a network' || pass
grep -o '<svg' report.html | wc -l | awk '{ exit $1 < 4 }' && pass || fault 'report: too few figures'
[ "$(grep -o '<svg' report.html | wc -l)" = "$(grep -o '</svg>' report.html | wc -l)" ] && pass || fault 'report: a figure is not closed'

# ---- no patient field gets out ----
cp "$clips/SZ_sample1.edf" secret.edf
chmod u+w secret.edf
printf 'ZZPATIENT^Doe F 01-JAN-1950 ZZNAME' | dd of=secret.edf bs=1 seek=8 conv=notrunc 2>/dev/null
printf 'Startdate 01-JAN-2001 ZZADMIN ZZDOCTOR ZZDEVICE' | dd of=secret.edf bs=1 seek=88 conv=notrunc 2>/dev/null
{
    "$STRAND" eeg info secret.edf
    "$STRAND" eeg info -f json secret.edf
    "$STRAND" eeg predict -m "$distance" secret.edf --report r1.html
    "$STRAND" eeg detect -m "$distance" secret.edf --report r2.html --edf s.edf -f jsonl
    cat r1.html r2.html s.edf
} >all 2>&1
grep -a -E -q "ZZ(PATIENT|NAME|ADMIN|DOCTOR|DEVICE)" all && fault 'a patient field reached an output' || pass

# ---- channels ----
expect 1 'no EEG' "$STRAND" eeg predict -q -m "$distance" "$data/edf/mne_test_uneven_samp.edf"
says 'FP1 is missing' 'no EEG'
printf 'FP1\tEEG F3-REF\nF3\tEEG FP1-REF\n' >swap.tsv
expect 0 'a map' "$STRAND" eeg predict -m "$distance" "$clips/SZ_sample1.edf" --map swap.tsv
grep -q 'FP1 <- EEG F3-REF (by --map)' err && pass || fault "a map: $(head -c 300 err)"
printf 'FP1\tno such label\n' >wrong.tsv
expect 1 'a map to nothing' "$STRAND" eeg predict -q -m "$distance" "$clips/SZ_sample1.edf" --map wrong.tsv
cp "$clips/SZ_sample1.edf" twice.edf
chmod u+w twice.edf
printf 'EEG FP1-LE      ' | dd of=twice.edf bs=1 seek=272 conv=notrunc 2>/dev/null
expect 1 'an electrode twice' "$STRAND" eeg predict -q -m "$distance" twice.edf
says 'twice' 'an electrode twice'
printf 'EEG XX-REF      ' | dd of=twice.edf bs=1 seek=272 conv=notrunc 2>/dev/null
expect 1 'an electrode missing' "$STRAND" eeg predict -q -m "$distance" twice.edf
expect 0 'zeros for it' "$STRAND" eeg predict -m "$distance" twice.edf --missing zero
grep -q 'F3 <- missing: zeros' err && pass || fault 'zeros are not named'
for montage in as-is average bipolar; do expect 0 "features, $montage" "$STRAND" eeg features -q -k bands --montage $montage "$clips/SZ_sample1.edf"; done
is "$(sed -n 2p out | cut -f2)" FP1-F7 'bipolar montage'
expect 2 'bipolar for a model' "$STRAND" eeg predict -q -m "$distance" --montage bipolar "$clips/SZ_sample1.edf"
expect 0 'T3 is T7' "$STRAND" eeg features "$data/edf/szcore_bipolar.edf" -o f.npy
grep -q 'T3 <- T7-Avg' err && grep -q 'T5 <- P7-Avg' err && pass || fault "T3 is T7: $(head -c 300 err)"
is "$(wc -c <f.npy)" 15328 'features [2, 19, 100]'

# ---- resampling ----
expect 1 'Fourier method past --memory' "$STRAND" eeg features -q "$data/edf/szcore_unipolar.edf" --memory 10K
says 'polyphase' 'Fourier method past --memory'
expect 0 'polyphase within it' "$STRAND" eeg features -q "$data/edf/szcore_unipolar.edf" --memory 10K --resample polyphase
expect 1 'a wrong model' "$STRAND" eeg predict -q -m hyenadna-tiny-strand "$clips/SZ_sample1.edf"
expect 2 'no model' "$STRAND" eeg predict -q "$clips/SZ_sample1.edf"

# ---- a recording that grows, and a stream, give what the file gives ----
"$STRAND" eeg predict -q --no-version -m "$distance" "$clips/SZ_sample1.edf" -o whole.tsv
head -c 200000 "$clips/SZ_sample1.edf" >grows.edf
"$STRAND" eeg predict -q --no-version -m "$distance" grows.edf --follow --idle 3 >followed.tsv &
sleep 1
tail -c +200001 "$clips/SZ_sample1.edf" >>grows.edf
wait $!
same whole.tsv followed.tsv 'a growing file'
names=FP1,FP2,F3,F4,C3,C4,P3,P4,O1,O2,F7,F8,T3,T4,T5,T6,FZ,CZ,PZ
head -c $((19 * 4 * 200 * 48)) /dev/zero | "$STRAND" eeg predict -q --no-version -m "$distance" - --follow --rate 200 --channels $names >stream.tsv
is "$(wc -l <stream.tsv)" 4 'a stream of 48 s has 3 windows'
expect 2 'a stream without --follow' "$STRAND" eeg predict -q -m "$distance" -
expect 2 'a stream without names' "$STRAND" eeg predict -q -m "$distance" - --follow

# the same at 250 Hz (a record lasts 0.8 s), where samples go through the polyphase filter
cp "$clips/SZ_sample1.edf" fast.edf
chmod u+w fast.edf
printf '0.8     ' | dd of=fast.edf bs=1 seek=244 conv=notrunc 2>/dev/null
"$STRAND" eeg predict -q --no-version -m "$distance" fast.edf --resample polyphase -o whole.tsv
head -c 150000 fast.edf >grows.edf
"$STRAND" eeg predict -q --no-version -m "$distance" grows.edf --follow --idle 3 >followed.tsv &
sleep 1
tail -c +150001 fast.edf >>grows.edf
wait $!
is "$(wc -l <whole.tsv)" 3 'two windows in 40 s'
same whole.tsv followed.tsv 'a growing file at another rate'
"$STRAND" eeg predict -q --no-version -m "$distance" fast.edf -o fourier.tsv
paste whole.tsv fourier.tsv | awk 'NR > 1 { d = $4 - $29; if (d < 0) d = -d; if (d > 0.1) exit 1 } END { exit NR < 3 }' && pass || fault "both ways of resampling: $(cut -f4 whole.tsv fourier.tsv | tr '\n' ' ')"
# a signal ends a stream, and what came is there
"$STRAND" eeg predict -q --no-version -m "$distance" grows.edf --follow >stopped.tsv &
sleep 2
kill -TERM $!
wait $!
is $? 143 'SIGTERM while following'
same whole.tsv stopped.tsv 'what came before the signal'

# Every command that follows: frames from a stream give the bytes that a file of the same samples gives, and memory stays what it
# was. `frames CHANNELS RATE SECONDS` makes sines and noise, `recording NAME INTERVAL NAMES` the header of a file of them.
if have perl; then
    frames() {
        perl -e 'binmode STDOUT; my ($n, $rate, $seconds) = @ARGV; my $r = 1; for my $t (0 .. $rate * $seconds - 1) { my @f;
            for my $c (0 .. $n - 1) { $r = ($r * 1103515245 + 12345) % 2147483648;
                push @f, 30 * sin(6.2831853 * $t / $rate * (1 + $c % 7 + int($t / $rate / 30) % 5)) + 40 * ($r / 2147483648 - 0.5) }
            print pack "f<*", @f }' "$@"
    }
    recording() {
        local i=0 name list
        IFS=, read -ra list <<<"$3"
        printf 'Brain Vision\n[Common Infos]\nDataFile=%s.eeg\nNumberOfChannels=%d\nSamplingInterval=%s\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n' "$1" ${#list[@]} "$2"
        for name in "${list[@]}"; do
            i=$((i + 1))
            printf 'Ch%d=%s,,,µV\n' $i "$name"
        done
    }
    night=C3-M2,F4-M1,F3-F4,F3-M2,F4-O2,F3-O1,FP1-F3,FP1-M2,FP1-O1,FP2-F4,FP2-M1,FP2-O2,EMG,ECG,EOG1,EOG2
    frames 19 200 100 >day.eeg
    recording day 5000 $names >day.vhdr
    frames 16 100 765 >night.eeg
    recording night 10000 $night >night.vhdr
    streams() { # WHAT COMMAND...: the recording `day` or, for stage, `night`
        local what=$1 from=day stream="--follow --rate 200 --channels $names"
        shift
        [ "$1" != stage ] || from=night stream="--follow --rate 100 --channels $night"
        expect 0 "$what" "$STRAND" eeg "$@" $from.vhdr -q
        mv out whole
        "$STRAND" eeg "$@" - -q $stream <$from.eeg >followed 2>err && [ -s whole ] && pass || fault "$what, a stream: $(cat err)"
        same whole followed "$what: a stream gives what the file gives"
    }
    correlation=$ssl/pretrained_correlation_graph_12s.pth.tar
    own=$STRAND_SHARED/golden/eeg/dcrnn-detection-sz1
    sleepnet=$data/simple_sleep_net-dodh/best_model.gz
    streams 'features' features
    streams 'bands of the bipolar montage' features -k bands --montage bipolar
    streams 'embed, window after window' embed -m "$distance" --no-version
    streams 'embed, windows that overlap' embed -m "$distance" --no-version --step 5 --per-node
    streams 'embed, windows with gaps between' embed -m "$distance" --no-version --step 20
    streams 'embed, correlation graph' embed -m "$correlation" --no-version --step 5
    streams 'detect' detect -m "$distance" -t 0.3 --min-duration 1
    streams 'detect, every second' detect -m "$distance" -t 0.02 --step 1 -f jsonl --min-duration 1
    streams 'detect, its own head' detect -m "$own" -t 0.3
    streams 'predict' predict -m "$distance" --no-version
    streams 'predict, correlation graph' predict -m "$correlation" --no-version
    for wait in 20 7 0; do streams "stage, --wait $wait" stage -m "$sleepnet" --no-version --wait $wait; done
    is "$(wc -l <whole)" 26 'stages of 25 epochs'
    expect 2 'stage waits too long' "$STRAND" eeg stage -q -m "$sleepnet" night.vhdr --wait 21
    expect 2 'a file that does not grow' "$STRAND" eeg features -q day.vhdr --follow
    expect 2 'features of a stream without --follow' "$STRAND" eeg features -q -
    expect 2 'a report of a stream' "$STRAND" eeg stage -q -m "$sleepnet" - --follow --rate 100 --channels $night --report r.html
    "$STRAND" eeg embed -q -m "$distance" - --follow --rate 200 --channels $names -o e.npy <day.eeg
    is "$(wc -c <e.npy)" $((128 + 8 * 64 * 4)) 'embeddings of a stream [8, 64]'
    # Gaps in an EDF+ file of events: zeros and an annotation, for viewers open continuous files only.
    printf 'Brain Vision\n[Marker Infos]\nMk1=New Segment,,1,1,0,20200101120000000000\nMk2=New Segment,,8001,1,0,20200101120050300000\n' >gap.vmrk
    sed 's/^DataFile=.*/&\nMarkerFile=gap.vmrk/' day.vhdr >gap.vhdr
    expect 0 'a recording with a gap' "$STRAND" eeg detect -q -m "$distance" gap.vhdr -t 0 --edf gap.edf
    holds 'format      EDF+C' 'events of a recording with a gap' gap.edf
    is "$(info --annotations gap.edf | cut -f1-3 | tr '\t\n' ' ;' | sed 's/sz [0-9.]*/sz/g')" 'onset duration text;0.000 40.000 sz;40.000 10.300 gap;50.300 60.000 sz;' 'the gap is named'

    # The same from an EDF file that grows, in pieces that end anywhere.
    grows() { # WHAT FILE.edf COMMAND...
        local what=$1 from=$2 size i
        shift 2
        size=$(wc -c <$from)
        cp $from grown.edf
        expect 0 "$what" "$STRAND" eeg "$@" -q grown.edf
        mv out whole
        head -c $((size / 3)) $from >grown.edf
        "$STRAND" eeg "$@" -q grown.edf --follow --idle 2 >followed 2>err &
        sleep 0.4
        tail -c +$((size / 3 + 1)) $from | head -c $((size / 3)) >>grown.edf
        sleep 0.4
        tail -c +$((2 * (size / 3) + 1)) $from >>grown.edf
        wait $! && [ -s whole ] && pass || fault "$what, a file that grows: $(cat err)"
        same whole followed "$what: a file that grows gives what the whole file gives"
    }
    "$STRAND" eeg stage -q -m "$sleepnet" night.vhdr --edf night.edf >out 2>err && pass || fault "stages as annotations: $(cat err)"
    grows 'detect' gap.edf detect -m "$distance" -t 0.02 --min-duration 1 --no-date
    grows 'embed' gap.edf embed -m "$distance" --step 4 --no-version
    grows 'features' gap.edf features -k bands
    grows 'stage' night.edf stage -m "$sleepnet" --no-version

    # kB that the command has held at most, after the frames went by TIMES times
    steady() { # WHAT FRAMES COMMAND...
        local what=$1 from=$2 pid early late i
        shift 2
        rm -f pipe
        mkfifo pipe
        "$STRAND" eeg "$@" - -q --follow <pipe >followed 2>err &
        pid=$!
        exec 9>pipe
        for i in 1 2; do cat $from >&9; done
        sleep 0.5
        early=$(sed -n 's/VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' /proc/$pid/status 2>/dev/null)
        for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do cat $from >&9; done
        sleep 0.5
        late=$(sed -n 's/VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' /proc/$pid/status 2>/dev/null)
        exec 9>&-
        wait $pid && pass || fault "$what: $(cat err)"
        [ -n "$early" ] && [ "$late" -le $((early + 256)) ] && pass || fault "$what: memory grew from $early kB to $late kB"
    }
    if [ -r /proc/self/status ]; then
        steady 'detect holds its memory' day.eeg detect -m "$distance" --rate 200 --channels $names
        steady 'predict holds its memory' day.eeg predict -m "$correlation" --rate 200 --channels $names
        steady 'features hold their memory' day.eeg features --rate 200 --channels $names
        steady 'stage holds its memory' night.eeg stage -m "$sleepnet" --rate 100 --channels $night
    fi
else
    note "no perl: streams of every command are skipped"
fi

# ---- NaN, a full disk ----
printf 'Brain Vision\n[Common Infos]\nDataFile=nan.eeg\nNumberOfChannels=1\nSamplingInterval=5000\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\nCh1=Fp1,,,µV\n' >nan.vhdr
{
    head -c 4000 /dev/zero
    printf '\000\000\300\177'
    head -c 4000 /dev/zero
} >nan.eeg
expect 1 'NaN' "$STRAND" eeg features -q nan.vhdr --missing zero
says 'FP1 is not a finite number at 5.000 s' 'NaN'
holds 'NaN in it' 'NaN in eeg info' nan.vhdr
if [ -c /dev/full ]; then
    expect 1 'a full disk' "$STRAND" eeg detect -q -m "$distance" "$clips/SZ_sample1.edf" -o /dev/full
    expect 1 'a report on a full disk' "$STRAND" eeg detect -q -m "$distance" "$clips/SZ_sample1.edf" -o e.tsv --report /dev/full
fi
expect 1 'a report in no folder' "$STRAND" eeg detect -q -m "$distance" "$clips/SZ_sample1.edf" --report no/such/folder.html

# ---- embeddings ----
expect 0 'embed' "$STRAND" eeg embed -q -m "$distance" "$clips/SZ_sample1.edf" -o e.npy
is "$(wc -c <e.npy)" $((128 + 4 * 64 * 4)) 'embeddings [4, 64]'

# ---- sleep ----
if "$STRAND" eeg stage -q --no-version -m "$data/simple_sleep_net-dodh/best_model.gz" "$clips/SZ_sample1.edf" --missing zero >stages.tsv 2>err; then
    is "$(head -1 stages.tsv)" 'onset	duration	stage	W	N1	N2	N3	REM' 'columns of stages'
    is "$(wc -l <stages.tsv)" 2 'one epoch of 30 s in 50 s'
else
    fault "stage: $(cat err)"
fi
expect 1 'sleep channels missing' "$STRAND" eeg stage -q -m "$data/simple_sleep_net-dodh/best_model.gz" "$clips/SZ_sample1.edf"

# ---- other readers ----
if [ -n "${STRAND_EEG_DUMP:-}" ] && { python=$(python_with numpy,scipy,mne,pyedflib) || python=$(python_with numpy,scipy) || python=$(python_with numpy); }; then
    "$python" "$here/eeg_oracles.py" "$STRAND_EEG_DUMP" "$data" "$STRAND" >oracles 2>&1 && pass || fault "other readers: $(cat oracles)"
    cat oracles
    if "$python" -c 'import scipy' 2>/dev/null; then
        "$python" "$here/eeg_stage_oracle.py" "$STRAND" "$data/simple_sleep_net-dodh/best_model.gz" >stages 2>&1 && pass || fault "stages: $(tail -3 stages)"
        cat stages
    fi
else
    note "no python3 with numpy: comparison with libedf, mne and scipy is skipped"
fi
finish

# forecast.sh - strand forecast: layouts and ways of writing give the same forecast, back-tests, bands, streams, plots, bad input.
. "$(dirname "$0")/lib.sh"
csv_fields=${STRAND_CSV_FIELDS:-}

# hourly NAME N: N hours of two daily curves from 2020-01-01 on, the second one twice the first
awk -v n=420 'BEGIN {
    print "date,A,OT"
    for (i = 0; i < n; i++) {
        d = int(i / 24)
        v = 17 + 6 * sin(i * 0.2617993878) + 2 * sin(i * 0.05) + (i * 7919 % 13) / 13
        printf "2020-%02d-%02d %02d:00:00,%.4f,%.4f\n", 1 + (d >= 31), 1 + (d >= 31 ? d - 31 : d), i % 24, 2 * v, v
    }
}' >wide.csv
cut -d, -f1,3 wide.csv >base.csv

expect 0 forecast "$STRAND" forecast -q base.csv
if [ ! -s out ]; then
    echo "SKIP: no default model"
    exit 77
fi
cp out base.out
is "$(wc -l <base.out)" 721 "rows of the default horizon"
is "$(head -1 base.out)" "unique_id,date,spacetime,spacetime-lo-90,spacetime-hi-90" "header"
is "$(sed -n 2p base.out | cut -d, -f1,2)" "OT,2020-01-18 12:00:00" "first row"
is "$(tail -1 base.out | cut -d, -f2)" "2020-02-17 11:00:00" "last row"
is "$(sed -n 2p base.out | cut -d, -f4,5)" "," "no band from too few windows"
awk -F, 'NR > 1 && ($3 < -10 || $3 > 45) { exit 1 }' base.out && pass || fault "the forecast of a curve between 8 and 26 leaves it far"

# -- the same numbers however the table is written
numbers() { tail -n +2 "$1" | cut -d, -f"${2:-3-}"; }
alike() { # WHAT OPTIONS...
    local what=$1
    shift
    expect 0 "$what" "$STRAND" forecast -q -H 24 "$@"
    numbers out >now.txt
    same now.txt want.txt "$what"
}
expect 0 "24 hours" "$STRAND" forecast -q -H 24 base.csv
numbers out >want.txt
head -25 base.out | numbers /dev/stdin 3 >long.txt
cut -d, -f1 want.txt | paste -d' ' - long.txt | awk '{ if ($1 - $2 > 1e-4 || $2 - $1 > 1e-4) exit 1 }' && pass || fault "a shorter horizon is not the beginning of a longer one"
is "$(awk -F, '$2 > $1 || $3 < $1 || $2 == "" { n++ } END { print n + 0 }' want.txt)" 0 "bands around the forecast"
gzip -k base.csv
alike gzip base.csv.gz
alike "standard input" - <base.csv
"$STRAND" forecast -q -H 24 <base.csv.gz | tail -n +2 | cut -d, -f3- >now.txt
same now.txt want.txt "gzip on standard input"
{ printf '\357\273\277'; sed 's/,/;/; s/\./,/; s/$/\r/' base.csv; } >german.csv
alike "semicolons, decimal commas, CRLF, byte-order mark" german.csv
tr , '\t' <base.csv >tab.tsv
alike tabs tab.tsv
sed 's/\([^,]*\),\(.*\)/"\1", "\2"/' base.csv >quoted.csv
alike "quoted fields" quoted.csv
sed 's/^\(2020[-0-9]*\) \([0-9:]*\),/\1T\2+02:00,/' base.csv >zone.csv
alike "times with a zone" zone.csv
is "$(sed -n 2p out | cut -d, -f2)" "2020-01-18T12:00:00+02:00" "times are written as they came"
awk -F, 'NR == 1 { print "t,y" } NR > 1 { print 1577836800 + 3600 * (NR - 2) "," $2 }' base.csv >seconds.csv
alike "seconds since 1970" seconds.csv
is "$(sed -n 2p out | cut -d, -f2)" 1579348800 "seconds are written as seconds"
awk -F, 'NR == 1 { print "ds,y" } NR > 1 { print NR "," $2 }' base.csv >counted.csv
alike "counted samples" counted.csv
{ head -1 base.csv; tail -n +2 base.csv | sort -r; } >back.csv
alike "rows in another order" back.csv
alike "a column of a wide table" wide.csv
alike "a named column" -t OT wide.csv
awk -F, 'NR == 1 { print "v,k,when" } NR > 1 { print $2 ",x," $1 }' base.csv >renamed.csv
alike "renamed columns" --id k --time when -t v renamed.csv
alike "batches of one" --batch 1 base.csv
alike "four threads" -@ 4 base.csv
alike "rows after the end" --until "2020-01-18 11:00:00" <(cat base.csv; echo "2020-01-18 12:00:00,99") # only what is before

# -- many series, in one run as one by one
awk -F, 'NR == 1 { print "unique_id,ds,y" } NR > 1 { print "a," $1 "," $3; print "\"b, \"\"c\"\"\"," $1 "," $2 }' wide.csv >two.csv
expect 0 "two series" "$STRAND" forecast -q -H 24 two.csv
is "$(wc -l <out)" 49 "rows of two series"
sed -n 2,25p out | cut -d, -f3- >now.txt
same now.txt want.txt "the first of two series"
is "$(sed -n 26p out | cut -c1-12)" '"b, ""c""",2' "a name that needs quotes"
expect 0 "two columns" "$STRAND" forecast -q -H 24 -t A,OT wide.csv
tail -24 out | cut -d, -f3- >now.txt
same now.txt want.txt "the second of two columns"
sed -n 2,25p out | cut -d, -f3- >a.txt
"$STRAND" forecast -q -H 24 two.csv | tail -24 | sed 's/.*",//' | cut -d, -f2- >now.txt
same now.txt a.txt "the second series of a long table, the first column of a wide one"
expect 3 "one series is too short" "$STRAND" forecast -q -H 24 <(cat two.csv; echo "short,2020-01-01 00:00:00,1"; echo "short,2020-01-01 01:00:00,1")
grep -q "'short': has 2 samples, but the model reads 336" err && pass || fault "a short series: $(cat err)"
is "$(wc -l <out)" 49 "the other series are there"

# -- formats
expect 0 "JSON Lines" "$STRAND" forecast -q -H 24 -o o.jsonl base.csv
if have python3; then
    python3 - o.jsonl want.txt <<'END' && pass || fault "JSON Lines hold other numbers"
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
want = [[float(x) for x in line.split(",")] for line in open(sys.argv[2])]
assert len(rows) == 24 and rows[0]["unique_id"] == "OT" and rows[0]["date"] == "2020-01-18 12:00:00"
assert [[r["spacetime"], r["spacetime-lo-90"], r["spacetime-hi-90"]] for r in rows] == want
END
fi
expect 0 NPY "$STRAND" forecast -q -H 24 -o o.npy two.csv
is "$(head -c 128 o.npy | tr -d '\0' | grep -ao "'shape': (2, 24, 3)")" "'shape': (2, 24, 3)" "shape of an NPY array"
is "$(stat -c %s o.npy)" $((128 + 2 * 24 * 3 * 4)) "size of an NPY array"
is "$(sed -n 2p o.npy.tsv | cut -f1,3)" "a	2020-01-18 12:00:00" "table of an NPY array"
expect 0 levels "$STRAND" forecast -q -H 1 --level 50,80,95 base.csv
is "$(head -1 out)" "unique_id,date,spacetime,spacetime-lo-50,spacetime-hi-50,spacetime-lo-80,spacetime-hi-80,spacetime-lo-95,spacetime-hi-95" "levels"
tail -1 out | awk -F, '{ exit !($8 <= $6 && $6 <= $4 && $4 <= $3 && $3 <= $5 && $5 <= $7 && $7 <= $9) }' && pass || fault "levels are not nested: $(tail -1 out)"
expect 0 "no bands" "$STRAND" forecast -q -H 1 --windows 0 base.csv
is "$(head -1 out)" "unique_id,date,spacetime" "no bands"
expect 0 remarks "$STRAND" forecast -H 24 -o /dev/null base.csv
says "from 61 past windows" "how many windows"
says "one sample every hour (1h)" "the frequency is said"

# -- missing values
sed '100d' base.csv >hole.csv
expect 1 "a hole" "$STRAND" forecast hole.csv
says "hole.csv: row 100: 1 sample is missing between 2020-01-05 01:00:00 and 2020-01-05 03:00:00" "a hole"
for how in ffill linear zero; do
    expect 0 "--missing $how" "$STRAND" forecast -q -H 24 --missing $how hole.csv
    is "$(numbers out | wc -l)" 24 "--missing $how"
done
sed '100s/,.*/,NA/' base.csv >na.csv
"$STRAND" forecast -q -H 24 --missing linear na.csv >a.out
"$STRAND" forecast -q -H 24 --missing linear hole.csv >b.out
same a.out b.out "a missing value and a missing row"

# -- bad input: one line, row and column
bad() { # TEXT-THAT-IS-SAID WHAT FILE OPTIONS...
    local text=$1 what=$2
    shift 2
    expect 1 "$what" "$STRAND" forecast "$@"
    says "$text" "$what"
    [ -s out ] && fault "$what: something was written" || pass
}
sed '100s/,.*/,x/' base.csv >x.csv
bad "x.csv: row 100, column 2: 'x' is no number" "a word for a number" x.csv
sed '100s/.*,/yesterday,/' base.csv >x.csv
bad "row 100, column 1: 'yesterday' is no time" "a word for a time" x.csv
sed '100s/,.*//' base.csv >x.csv
bad "row 100: has 1 column, but the header has 2" "a short row" x.csv
sed '100p' base.csv >x.csv
bad "row 101: 2020-01-05 02:00:00 is there twice, first in row 100" "a duplicate" x.csv
sed '100s/02:00:00/02:10:00/' base.csv >x.csv
bad "row 100: from .* is no whole number of steps" "a step off the grid" x.csv
sed '100s/,/,"/' base.csv >x.csv
bad "row 100" "an open quote" x.csv
tail -n +2 base.csv >x.csv
bad "row 1: the table has no header" "no header" x.csv
: >x.csv
bad "is empty" "an empty file" x.csv
head -1 base.csv >x.csv
bad "there are no samples" "a header alone" x.csv
head -c 2000 base.csv.gz >x.csv.gz
bad "is cut off" "half a gzip file" x.csv.gz
{ head -c 300 base.csv.gz; head -c 500 /dev/zero; } >x.csv.gz
bad "x.csv.gz: is" "a damaged gzip file" x.csv.gz
printf 'PK\003\004xxxxxxxx' >x.xlsx
bad "is a zip archive or a spreadsheet" "a spreadsheet" x.xlsx
printf 'ds,y\n\000\000' >x.csv
bad "zero byte" "binary" x.csv
bad "no-such.csv: cannot open" "a missing file" no-such.csv
bad "is a directory" "a folder" .
bad "there is no column 'no'" "a missing target" -t no base.csv
head -100 base.csv >x.csv
bad "'OT': has 99 samples, but the model reads 336" "too few samples" x.csv
awk 'NR == 1 || NR % 2 == 0' base.csv >x.csv
bad "has one sample every 2 hours, but the model spacetime-etth1-strand was trained on one sample every hour" "another frequency" x.csv
bad "makes no forecasts" "a model of another kind" -m hyenadna-tiny-strand base.csv
bad "does not fit\|out of range\|horizon" "an absurd horizon" -H 9000000000000000000 base.csv
awk 'BEGIN { print "ds,y"; for (i = 0; i < 800; i++) printf "%d-01-01,%d\n", 9200 + i, i % 7 }' >x.csv
bad "past the year 9999" "the end of time" --any-frequency x.csv
expect 2 "bad frequency" "$STRAND" forecast --freq often base.csv
expect 2 "bad time" "$STRAND" forecast --until often base.csv
expect 2 "bad levels" "$STRAND" forecast --level 90,100 base.csv
expect 2 "npy on the standard output" "$STRAND" forecast -f npy base.csv
expect 2 "plot and follow" "$STRAND" forecast --follow -p x.svg base.csv
expect 2 "expanding without follow" "$STRAND" forecast --expanding base.csv
expect 2 "two back-tests" "$STRAND" forecast --split test --cv-windows 3 base.csv
if [ -w /dev/full ]; then
    for o in "-o /dev/full" "-f jsonl -o /dev/full" "--cv-windows 2 -H 10 -o /dev/full"; do
        # shellcheck disable=SC2086
        expect 1 "$o" "$STRAND" forecast -q $o base.csv
        says "cannot write" "$o"
    done
    "$STRAND" forecast -q base.csv >/dev/full 2>err
    is $? 1 "forecast > /dev/full"
    expect 1 "follow > /dev/full" sh -c "\"$STRAND\" forecast -H 1 --follow <base.csv >/dev/full"
fi

# -- back-tests: the rows give the table
expect 0 "back-test" "$STRAND" forecast -q -H 12 --cv-windows 5 --step 6 -o cv.csv base.csv
is "$(wc -l <cv.csv)" 61 "rows of a back-test"
is "$(head -1 cv.csv)" "unique_id,date,cutoff,y,spacetime,spacetime-lo-90,spacetime-hi-90,naive,seasonal-naive,drift,mean" "header of a back-test"
is "$(tail -1 cv.csv | cut -d, -f2,3)" "2020-01-18 11:00:00,2020-01-17 23:00:00" "the last window ends with the series"
cp out table
is "$(awk 'NR > 1 { print $2 }' table | tr '\n' ' ')" "spacetime naive seasonal-naive drift mean " "models of the table"
awk -F, 'NR == FNR { split($0, w, " +"); if (FNR > 1) { mse[FNR - 1] = w[4]; mae[FNR - 1] = w[5]; smape[FNR - 1] = w[8]; cover[FNR - 1] = w[9] } next }
    FNR > 1 { n++; c[1] = 5; c[2] = 8; c[3] = 9; c[4] = 10; c[5] = 11
        for (k = 1; k <= 5; k++) { e = $c[k] - $4; a = e < 0 ? -e : e; s[k] += e * e; m[k] += a; y[k] += 200 * a / ($4 + $c[k]) }
        if ($6 != "") { banded++; inside += $4 >= $6 - 1e-5 && $4 <= $7 + 1e-5 } }
    function near(a, b) { return a - b < 1e-3 && b - a < 1e-3 }
    END { for (k = 1; k <= 5; k++) if (!near(s[k] / n, mse[k]) || !near(m[k] / n, mae[k]) || !near(y[k] / n, smape[k])) exit 1
        exit !(banded == 60 && near(100 * inside / banded, cover[1])) }' table cv.csv && pass || fault "the table is not that of the rows: $(cat table)"
# the last window is the forecast of the series without its last 12 hours, and bands know nothing later
head -n -12 base.csv >before.csv
"$STRAND" forecast -q -H 12 --windows 0 before.csv | tail -n +2 | cut -d, -f2,3 >a.out
tail -12 cv.csv | cut -d, -f2,5 >b.out
same a.out b.out "a window of a back-test and a forecast from its cutoff"
sed '$s/,.*/,1000/' base.csv >spoilt.csv
"$STRAND" forecast -q -H 12 --cv-windows 5 --step 6 -o cv2.csv spoilt.csv >/dev/null
cut -d, -f1-3,5- cv.csv >a.out
cut -d, -f1-3,5- cv2.csv >b.out
same a.out b.out "the future changes nothing but the truth"
# a band is the k-th smallest error of the past windows at its step, k = ceil((n + 1) level): those of a back-test with the same cutoffs
expect 0 "errors of nine windows" "$STRAND" forecast -q -H 12 --cv-windows 9 --step 6 --windows 0 -o nine.csv base.csv
awk -F, 'NR > 1 { t = (NR - 2) % 12 + 1; e = $4 - $5; print t, (e < 0 ? -e : e) }' nine.csv | sort -k1,1n -k2,2g | awk '{ n[$1]++; if (n[$1] == 5) print $2 }' >a.out
expect 0 "recent windows" "$STRAND" forecast -q -H 12 --windows 9 --window-step 6 --level 50 base.csv
tail -n +2 out | awk -F, '{ print ($5 - $4) / 2 }' >b.out
paste -d' ' a.out b.out | awk '{ d = $1 - $2; if (d > 2e-4 || d < -2e-4) exit 1 } END { exit NR != 12 }' && pass || fault "bands of recent windows: $(paste -d' ' a.out b.out)"
head -n -12 base.csv >before.csv
"$STRAND" forecast -q -H 12 --windows 9 --window-step 6 --level 50 before.csv | tail -n +2 | cut -d, -f4,5 >a.out
"$STRAND" forecast -q -H 12 --windows 9 --window-step 6 --level 50 --cv-windows 3 --step 6 -o cv3.csv base.csv >/dev/null
tail -12 cv3.csv | cut -d, -f6,7 >b.out
same a.out b.out "bands of a back-test with recent windows and of a forecast from its cutoff"
expect 2 "window-step 0" "$STRAND" forecast --window-step 0 base.csv
expect 1 "back-test of too short a series" "$STRAND" forecast -H 12 --cv-windows 50 --step 12 base.csv
expect 1 "a split that is not there" "$STRAND" forecast --split test base.csv
says "but the split ends at sample 14400" "a split that is not there"

# -- streams
head -345 base.csv >grow.csv
expect 0 follow "$STRAND" forecast -q -H 3 --follow - <grow.csv
cp out follow.out
is "$(wc -l <follow.out)" 28 "rows of a stream: nine forecasts"
for n in 337 341 345; do
    head -$n grow.csv | "$STRAND" forecast -q -H 3 --windows 0 | tail -n +2 | cut -d, -f2,3 >a.out
    sed -n "$((3 * (n - 337) + 2)),$((3 * (n - 337) + 4))p" follow.out | cut -d, -f2,4 >b.out
    same a.out b.out "sample $((n - 1)) of a stream and a plain forecast"
done
expect 0 "a stream with bands" "$STRAND" forecast -q -H 6 --follow --level 50,80 --windows 9 - <grow.csv
cp out bands.out
head -343 grow.csv | "$STRAND" forecast -q -H 6 --level 50,80 --windows 9 | tail -n +2 | cut -d, -f2- >a.out
sed -n 38,43p bands.out | cut -d, -f2,4- >b.out
same a.out b.out "a stream with bands and a plain forecast"
[ "$(sed -n 38p bands.out | cut -d, -f7,8)" = "," ] && pass || fault "bands of one past window: $(sed -n 38p bands.out)"
expect 0 "a longer stream with bands" "$STRAND" forecast -q -H 6 --follow --level 50,80 --windows 9 - <base.csv
tail -6 out | cut -d, -f2,4- >b.out
"$STRAND" forecast -q -H 6 --level 50,80 --windows 9 base.csv | tail -n +2 | cut -d, -f2- >a.out
same a.out b.out "a longer stream with bands and a plain forecast"
[ "$(tail -1 out | cut -d, -f5)" != "" ] && pass || fault "no bands in a longer stream"
expect 2 "expanding with bands" "$STRAND" forecast --follow --expanding --level 80 base.csv
# expanding: with no transform and no scale, one pass over all samples
expect 0 expanding "$STRAND" forecast -q -H 3 --follow --expanding --set data_transform=none - <grow.csv
tail -3 out | cut -d, -f4 >a.out
expect 0 "one pass" "$STRAND" forecast -q -H 3 --windows 0 --set data_transform=none --set lag=344 grow.csv
tail -n +2 out | cut -d, -f3 | paste -d' ' - a.out | awk '{ if ($1 - $2 > 1e-3 || $2 - $1 > 1e-3) exit 1 }' && pass || fault "expanding is not one pass over all samples: $(paste -d' ' a.out out)"
expect 0 "a short stream of two series" sh -c "\"$STRAND\" forecast -q -H 1 --follow <two.csv"
is "$(wc -l <out)" $((2 * 85 + 1)) "forecasts of two series"
sed '340d' base.csv >hole.csv
expect 1 "a hole in a stream" sh -c "\"$STRAND\" forecast -H 1 --follow <hole.csv"
says "row 340: 1 sample is missing" "a hole in a stream"
is "$(wc -l <out)" 4 "what came before the hole"
expect 0 "a filled hole in a stream" sh -c "\"$STRAND\" forecast -q -H 1 --missing linear --follow <hole.csv"
{ cat grow.csv; sed -n 5p grow.csv; } >x.csv
expect 1 "a stream out of order" sh -c "\"$STRAND\" forecast -H 1 --follow <x.csv"
says "row 346: 2020-01-01 03:00:00 comes after 2020-01-15 07:00:00" "a stream out of order"
expect 1 "a stream that ends early" sh -c "head -100 grow.csv | \"$STRAND\" forecast --follow"
says "before a window of 336 was full" "a stream that ends early"
# forecasts come while the stream is open; Ctrl-C ends the wait
mkfifo pipe
"$STRAND" forecast -q -H 1 --follow - <pipe >live.out 2>err &
reader=$!
exec 7>pipe
cat grow.csv >&7
for _ in $(seq 100); do
    [ "$(wc -l <live.out)" = 10 ] && break
    sleep 0.1
done
is "$(wc -l <live.out)" 10 "forecasts while the stream is open"
exec 7>&-
wait $reader
is $? 0 "the end of a stream"
cp grow.csv tail.csv
set -m
"$STRAND" forecast -q -H 1 --follow tail.csv >live.out 2>err &
reader=$!
set +m
for _ in $(seq 100); do
    [ "$(wc -l <live.out)" = 10 ] && break
    sleep 0.1
done
sed -n 346p base.csv >>tail.csv
for _ in $(seq 100); do
    [ "$(wc -l <live.out)" = 11 ] && break
    sleep 0.1
done
is "$(wc -l <live.out)" 11 "a file that grows is followed"
kill -INT $reader
wait $reader 2>/dev/null
is $? 130 "Ctrl-C ends following"
is "$(cat err)" "" "Ctrl-C: nothing said"

# -- plots
expect 0 plot "$STRAND" forecast -q -H 24 -p p.svg -o /dev/null two.csv
for text in 'prefers-color-scheme:dark' 'class="band"' 'class="history"' 'class="forecast"' 'Jan 2020' 'time, one sample every hour' 'b, "c"' 'band 90 %'; do
    grep -q "$text" p.svg && pass || fault "plot: no $text"
done
is "$(grep -c '<polyline class="forecast"' p.svg)" 2 "panels of a plot"
if have xmllint; then true_that "plot is XML" xmllint --noout p.svg; elif have python3; then true_that "plot is XML" python3 -c "import xml.dom.minidom; xml.dom.minidom.parse('p.svg')"; fi
expect 1 "plot to a device" "$STRAND" forecast -q -H 24 -p /dev/null base.csv
ls -A | grep -q 'part-' && fault "temporary files left: $(ls -A)" || pass

# -- the reader against Python's
if [ -n "$csv_fields" ] && have python3; then
    python3 - "$csv_fields" <<'END' && pass || fault "records are cut otherwise than Python cuts them"
import csv, io, random, subprocess, sys
random.seed(5)
for turn in range(60):
    separator = random.choice(",;\t")
    rows = [[random.choice(["", "a", "12.5", "x y", 'say "so"', "1,5", "a;b", "two\nlines", "tab\there", "\u00e9t\u00e9"]) for _ in range(4)] for _ in range(30)]
    rows = [["h1", "h2", "h3", "h4"]] + [r for r in rows if any(r)]
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=random.choice(["\n", "\r\n"]), quoting=random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])).writerows(rows)
    data = text.getvalue().encode()
    for piece in (1, 7, 65536):
        out = subprocess.run([sys.argv[1], str(piece)], input=data, stdout=subprocess.PIPE, check=True).stdout.decode()
        got = [[bytes.fromhex(f).decode() for f in line.split(" ")[1:]] for line in out.splitlines()]
        assert got == rows, (turn, piece, [(a, b) for a, b in zip(got, rows) if a != b][:1])
END
else
    note "no python3: the reader is not compared with its csv module"
fi

# -- a million rows
awk 'BEGIN { print "ds,y"; for (i = 0; i < 1000000; i++) printf "%d,%d\n", i, i % 24 }' >million.csv
expect 0 "a million rows" "$STRAND" forecast -q -H 24 --windows 0 million.csv
is "$(wc -l <out)" 25 "a million rows"

# -- the published code's forecasts, in the units of the data: several variables, other lags, other transforms
etth1=$STRAND_SHARED/data/timeseries/ETT-small/ETTh1.csv
if [ -f "$etth1" ] && have python3; then
    for case in spacetime-multivariate spacetime-small spacetime-etth1-720-random; do
        python3 - "$STRAND" "$etth1" "$STRAND_SHARED/golden/timeseries/$case" <<'END' && pass || fault "$case: other forecasts than the published code's"
import array, csv, io, json, struct, subprocess, sys
strand, data, folder = sys.argv[1:]
config = json.load(open(folder + "/config.json"))
raw = open(folder + "/expected.safetensors", "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
tensor = json.loads(raw[8:8 + n])["forecast"]
want = array.array("f", raw[8 + n + tensor["data_offsets"][0]:8 + n + tensor["data_offsets"][1]])
windows, horizon, variables = tensor["shape"]
dates = [r[0] for r in csv.reader(open(data))][1:]
for i, start in enumerate(config["window_starts"]):
    end = start + config["lag"]
    out = subprocess.run([strand, "forecast", "-q", "-m", folder, "--windows", "0", "--until", dates[end - 1], data], stdout=subprocess.PIPE, check=True).stdout.decode()
    rows = list(csv.reader(io.StringIO(out)))[1:]
    assert len(rows) == horizon * variables
    for k, row in enumerate(rows):
        v, t = divmod(k, horizon)
        mean, std = config["scaler_mean"][v], config["scaler_std"][v]
        assert row[0] == config["columns"][v] and row[1] == dates[end + t]
        assert abs(float(row[2]) - (want[(i * horizon + t) * variables + v] * std + mean)) < 1e-3, (i, k)
END
    done
fi

# -- the card's figures
if [ -f "$etth1" ]; then
    expect 0 "the test part of ETTh1" "$STRAND" forecast -q --split test --windows 0 "$etth1"
    is "$(awk '$2 == "mean" { print $3, substr($4, 1, 6), substr($5, 1, 6) }' out)" "2161 0.1105 0.2632" "mean of the window on the test part"
    awk '$2 == "spacetime" { exit !($3 == 2161 && $4 < 0.085 && $5 < 0.24) }' out && pass || fault "the default model on the test part of ETTh1: $(cat out)"
else
    note "../shared is not here: the default model's test error is not measured"
fi
finish

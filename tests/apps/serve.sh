# serve.sh - the server from the outside, with curl: routes, streams, batches, limits, who may ask, clients that leave, the end.
. "$(dirname "$0")/lib.sh"
m=$STRAND_SHARED/data/text/stories260K/stories260K.bin
[ -f "$m" ] || { echo "SKIP: no stories260K in STRAND_SHARED"; exit 77; }
have curl || { echo "SKIP: no curl"; exit 77; }
"$STRAND" serve -q -m "$m" --port 0 --sessions 3 --queue 6 --max-body 4K -n 5000 >address 2>err.server &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; rm -rf "$work"' EXIT
for _ in $(seq 100); do [ -s address ] && break; kill -0 "$server" 2>/dev/null || break; sleep 0.1; done
url=$(cat address)
[ -n "$url" ] || { grep -q 'without the server' err.server && { echo "SKIP: built without the server"; exit 77; }; fault "it does not start: $(cat err.server)"; finish; }
get() { curl -sS --max-time 30 "$@"; }
post() { get "$url$1" -d "$2"; }
code() { get -o body -w '%{http_code}' "$@"; }

is "$(get "$url/health")" '{"status":"ok"}' "health"
get "$url/v1/models" | grep -q '"id":"stories260K.bin"' && pass || fault "models"
get "$url/" | grep -q '<title>Strand' && pass || fault "the page"
post /v1/completions '{"prompt":"Once upon a time","max_tokens":20,"temperature":0}' >out
grep -q '"text":", there was a little girl named Lily. She loved to play outsid","logprobs":null,"finish_reason":"length"' out && pass || fault "a text: $(cat out)"
post /v1/completions '{"prompt":["Tom and","The big"],"max_tokens":8,"temperature":0}' | grep -q '"index":1' && pass || fault "two prompts"
post /v1/completions '{"prompt":[1,403,407],"max_tokens":2,"temperature":0}' | grep -q '"text":" a time"' && pass || fault "ids"
post /v1/completions '{"prompt":"Once","max_tokens":50,"temperature":0,"stop":[" little"]}' | grep -q '"text":" upon a time, there was a","logprobs":null,"finish_reason":"stop"' && pass || fault "a stop string"
post /v1/completions '{"prompt":"x","response_format":{"type":"json_schema","json_schema":{"schema":{"enum":["a","b"]}}}}' | grep -Eq '"text":"\\"[ab]\\" ?' && pass || fault "a schema"

# streams: the pieces are the whole
get -N "$url/v1/completions" -d '{"prompt":"Once upon a time","max_tokens":20,"temperature":0,"stream":true}' >out
is "$(tail -n 2 out | head -n 1)" "data: [DONE]" "the end of a stream"
is "$(sed -n 's/.*"text":"\([^"]*\)".*/\1/p' out | tr -d '\n')" ", there was a little girl named Lily. She loved to play outsid" "the text of a stream"
get -N "$url/v1/chat/completions" -d '{"messages":[{"role":"user","content":"hello"}],"max_tokens":5,"stream":true,"stream_options":{"include_usage":true}}' >out
grep -q '"delta":{"role":"assistant"' out && grep -q '"completion_tokens":5' out && pass || fault "a chat's stream: $(cat out)"
post /v1/embeddings '{"input":["a cat","a dog","a cat"]}' >out
is "$(grep -o '"index":' out | wc -l)" 3 "embeddings"
if have python3; then
    post /v1/embeddings '{"input":"a cat","encoding_format":"base64"}' >coded
    python3 -c '
import base64, json, struct
a = json.load(open("out"))["data"][0]["embedding"]
b = base64.b64decode(json.load(open("coded"))["data"][0]["embedding"])
assert all(abs(x - y) < 1e-5 for x, y in zip(a, struct.unpack("<%df" % len(a), b)))' && pass || fault "embeddings in base64"
fi

# many at once are what each is alone, and a prompt that begins alike is not run again
for i in 1 2 3 4 5; do post /v1/completions "{\"prompt\":\"Tom saw $i cats and\",\"max_tokens\":40,\"temperature\":0}" | sed 's/.*"text"/"text"/; s/,"usage.*//' >alone.$i; done
jobs=
for i in 1 2 3 4 5; do { post /v1/completions "{\"prompt\":\"Tom saw $i cats and\",\"max_tokens\":40,\"temperature\":0}" | sed 's/.*"text"/"text"/; s/,"usage.*//' >many.$i; } & jobs="$jobs $!"; done
wait $jobs
for i in 1 2 3 4 5; do same alone.$i many.$i "text $i among others"; done
long="Once upon a time there was a little dog who lived in a big house near the park and"
post /v1/completions "{\"prompt\":\"$long he\",\"max_tokens\":2}" >/dev/null
post /v1/completions "{\"prompt\":\"$long he was very happy\",\"max_tokens\":2}" | grep -Eq '"cached_tokens":[1-9]' && pass || fault "nothing was reused"

# a client that leaves ends its text
timeout 0.5 curl -sN "$url/v1/completions" -d '{"prompt":"Once","max_tokens":5000,"ignore_eos":true,"stream":true,"temperature":0}' >/dev/null
for _ in $(seq 50); do get "$url/metrics" | grep -q '^strand_texts_active 0' && break; sleep 0.1; done
get "$url/metrics" | grep -q '^strand_texts_active 0' && pass || fault "a text goes on without its client"

# what is refused, and how
is "$(code "$url/v1/completions" -d '{"prompt":')" 400 "cut JSON"; grep -q '"error"' body && pass || fault "no error object"
is "$(code "$url/v1/completions" -d '{}')" 400 "no prompt"
is "$(code "$url/v1/completions" -d '{"prompt":"x","temperature":-1}')" 400 "a negative temperature"
is "$(code "$url/v1/completions" -d '{"prompt":"x","n":1000}')" 400 "too many choices"
is "$(code "$url/v1/completions" -d '{"prompt":[1,999999]}')" 400 "an id beyond"
is "$(code "$url/v1/completions" -d '{"prompt":"x","grammar":"root ::= root"}' | cut -c1)" 2 "a grammar without a text"
is "$(code "$url/v1/completions" -d '{"prompt":"x","grammar":"root ::= root \"a\" | \"b\""}')" 400 "left recursion"
is "$(code "$url/v1/chat/completions" -d '{"messages":"x"}')" 400 "messages that are no list"
is "$(code "$url/v1/completions" -d "$(printf '%0.s[' $(seq 3000))")" 400 "deep JSON"
is "$(code "$url/v1/completions" -d "{\"prompt\":\"$(printf '%05000d' 0)\"}")" 413 "a long body"
is "$(code "$url/v1/completions")" 405 "GET of a route for POST"
is "$(code "$url/etc/passwd")" 404 "no route"
is "$(code -H 'Host: example.com' "$url/v1/models")" 403 "another Host"
is "$(code -H 'Origin: http://example.com' "$url/v1/models")" 403 "another Origin"
is "$(code -H "Origin: $url" "$url/v1/models")" 200 "its own Origin"
jobs=
for i in $(seq 16); do { code "$url/v1/completions" -d '{"prompt":"Once","max_tokens":400,"ignore_eos":true}' -o /dev/null >code.$i; } & jobs="$jobs $!"; done
wait $jobs
grep -q 429 code.* && pass || fault "a full queue refuses nobody: $(cat code.*)"
is "$(code "$url/health")" 200 "it still answers"
kill "$server"; wait "$server"; rc=$?
[ "$rc" = 0 ] || [ "$rc" = 143 ] && pass || fault "exit code $rc"

# a key
"$STRAND" serve -q -m "$m" --port 0 --api-key secret >address 2>err.server &
server=$!
for _ in $(seq 100); do [ -s address ] && break; sleep 0.1; done
url=$(cat address)
is "$(code "$url/v1/models")" 401 "without the key"
is "$(code -H 'Authorization: Bearer secres' "$url/v1/models")" 401 "with a wrong key"
is "$(code -H 'Authorization: Bearer secret' "$url/v1/models")" 200 "with the key"
expect 1 "a port that is taken" "$STRAND" serve -m "$m" --port "${url##*:}"; says "cannot be listened on" "a port that is taken"
kill "$server"; wait "$server" 2>/dev/null
expect 2 "an open address without a key" "$STRAND" serve -m "$m" --host 0.0.0.0; says "api-key" "an open address"
expect 2 "a wrong port" "$STRAND" serve -m "$m" --port 70000
finish

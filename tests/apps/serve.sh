# serve.sh - the server over plain sockets: routes, streams, who may ask, limits, prompts whose state is kept, many at once, clients
# that leave, SIGTERM. With Python's openai package, if it is there, that client too.
. "$(dirname "$0")/lib.sh"
"$STRAND" serve --port 0 -m none >out 2>err
grep -q 'this build has no server' err && { note "built without libmicrohttpd: skipped"; finish; exit; }
model=$STRAND_SOURCE/tests/golden/text/mamba1/hf-d48-n3-l301
[ -d "$model" ] || model=$STRAND_SHARED/golden/text/mamba1/hf-d48-n3-l301
[ -d "$model" ] || { model=mamba-bytes-strand; note "no STRAND_SHARED: the built-in model serves"; }

server= port=
start() {
    rm -f served
    STRAND_API_KEY= "$STRAND" serve -m "$model" --port 0 "$@" >served 2>said &
    server=$!
    for _ in $(seq 200); do grep -q '^serving' served 2>/dev/null && break; sleep 0.05; done
    port=$(sed -n 's/^serving .*:\([0-9]*\)$/\1/p' served)
    [ -n "$port" ] && pass || fault "the server did not start: $(cat said)"
}
stop() {
    kill -TERM $server # a shell in the background passes no SIGINT on
    wait $server
    is $? 143 "SIGTERM ends it"
    [ -s said ] && fault "the server said: $(cat said)" || pass
}
trap '[ -n "$server" ] && kill -9 $server 2>/dev/null; rm -rf "$work"' EXIT

# ask METHOD PATH BODY HEADERS...: the status in `status`, the body in `body`
ask() {
    local method=$1 path=$2 text=$3 host=127.0.0.1:$port
    shift 3
    exec 7<>/dev/tcp/127.0.0.1/$port || { fault "no connection"; return; }
    {
        printf '%s %s HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n' "$method" "$path" "${#text}"
        case " $*" in *Host:*) ;; *) printf 'Host: %s\r\n' "$host" ;; esac
        for h in "$@"; do printf '%s\r\n' "$h"; done
        printf '\r\n%s' "$text"
    } >&7
    tr -d '\000' <&7 >answer
    exec 7<&- 7>&-
    status=$(head -n 1 answer | cut -d' ' -f2)
    sed '1,/^\r$/d' answer >body
}
has() { grep -qF -- "$1" body && pass || fault "$2: no $1 in $(head -c 300 body)"; }
counter() { ask GET /metrics ''; sed -n "s/^strand_$1 //p" body; }

start --sessions 3 --queue 12
ask GET /health ''; is "$status" 200 health; has '"ok"' health
ask GET /v1/models ''; is "$status" 200 models; has '"object":"list"' models; has '"owned_by":"strand"' models
ask GET / ''; is "$status" 200 page; has 'chat.js' page
ask GET /chat.js ''; is "$status" 200 "page's script"
grep -qi '^content-security-policy: default-src .none' answer && pass || fault "the page has no policy"

# a text, twice: the same, and the second time its prompt is not run again
prompt='It was a bright cold day in April, and the clocks were striking'
ask POST /v1/completions "{\"prompt\":\"$prompt\",\"max_tokens\":12,\"seed\":5,\"temperature\":0.7}"
is "$status" 200 completion; has '"finish_reason":"length"' completion; has '"completion_tokens":12' completion; has '"cached_tokens":0' completion
cp body first
ask POST /v1/completions "{\"prompt\":\"$prompt\",\"max_tokens\":12,\"seed\":5,\"temperature\":0.7}"
text_of() { sed 's/.*"text":\("\([^"\\]\|\\.\)*"\),"logprobs".*/\1/' "$1"; }
is "$(text_of body)" "$(text_of first)" "the same seed, the same text"
grep -q '"cached_tokens":0' body && fault "the prompt's state was not kept" || pass

# greedy equals the command
ask POST /v1/completions "{\"prompt\":\"$prompt\",\"max_tokens\":9,\"temperature\":0,\"logprobs\":null}"
"$STRAND" text generate -q -m "$model" -p "$prompt" -n 9 -t 0 --only-new -f jsonl >made.jsonl
is "$(text_of body)" "$(sed 's/.*"text":\("[^}]*"\),"tokens".*/\1/' made.jsonl)" "greedy, as strand text generate"

# streams: pieces, one end a choice, usage, [DONE]
ask POST /v1/completions '{"prompt":["one","two"],"n":2,"max_tokens":4,"stream":true,"stream_options":{"include_usage":true}}'
is "$status" 200 stream
grep -qi '^content-type: text/event-stream' answer && pass || fault "the stream's type"
is "$(grep -c '"finish_reason":"' body)" 4 "ends of four choices"
is "$(grep -c '^data: \[DONE\]' body)" 1 "the stream's end"
has '"usage":{"prompt_tokens":' "the stream's usage"

# embeddings
ask POST /v1/embeddings '{"input":["one","two"]}'; is "$status" 200 embeddings; is "$(grep -o '"object":"embedding"' body | wc -l)" 2 "two vectors"
ask POST /v1/embeddings '{"input":"one","encoding_format":"base64"}'; is "$status" 200 base64; has '"embedding":"' base64

# JSON by a schema, a grammar, stop texts
ask POST /v1/completions '{"prompt":"x","max_tokens":40,"grammar":"root ::= \"yes\" | \"no\""}'
is "$status" 200 grammar; case "$(text_of body)" in '"yes"' | '"no"') pass ;; *) fault "grammar: $(cat body)" ;; esac
ask POST /v1/completions '{"prompt":"x","max_tokens":60,"response_format":{"type":"json_schema","json_schema":{"schema":{"enum":["a","b"]}}}}'
is "$status" 200 schema; case "$(text_of body)" in '"\"a\"'* | '"\"b\"'*) pass ;; *) fault "schema: $(cat body)" ;; esac
ask POST /v1/completions '{"prompt":"x","max_tokens":40,"grammar":"root ::= \"one two three\"","stop":[" two"]}'
is "$(text_of body)" '"one"' "stop"; has '"finish_reason":"stop"' stop

# what cannot be
refused() { # STATUS WORDS WHAT, of the last answer
    is "$status" "$1" "$3"; has "$2" "$3"; has '"error":{"message":' "$3"
}
ask POST /v1/completions '{"prompt":'; refused 400 'no JSON' "broken JSON"
ask POST /v1/completions '{"prompt":"x","temperature":-1}'; refused 400 temperature "temperature"
ask POST /v1/completions '{"prompt":"x","max_tokens":1.5}'; refused 400 max_tokens "max_tokens"
ask POST /v1/completions '{"prompt":[1,999999]}'; refused 400 'no token' "ids"
ask POST /v1/completions '{"prompt":"x","logprobs":5}'; refused 400 logprobs "logprobs"
ask POST /v1/completions '{"prompt":"x","tools":[{"a":1}]}'; refused 400 tools "tools"
ask POST /v1/completions '{"prompt":"x","grammar":"root ::= ("}'; refused 400 grammar "bad grammar"
ask POST /v1/completions "$(printf '%*s' 70 '' | tr ' ' '[')"; refused 400 JSON "deep JSON"
ask POST /v1/chat/completions '{"messages":"x"}'; refused 400 messages "messages"
ask POST /v1/chat/completions '{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}'; refused 400 'not text' "a picture"
ask POST /v1/chat/completions '{"messages":[{"role":"user","content":"x"}],"max_tokens":3}'; is "$status" 200 "a chat without a template"
ask POST /v1/nothing '{}'; refused 404 route "route"
ask GET /v1/completions ''; refused 405 POST "method"
ask GET /v1/models '' 'Host: evil.example'; refused 403 Host "Host"
ask GET /v1/models '' 'Origin: http://evil.example'; refused 403 origin "Origin"
ask GET /v1/models '' "Origin: http://127.0.0.1:$port"; is "$status" 200 "its own page"

# many at once: more than there are rows, each as if alone
ask POST /v1/completions '{"prompt":"alone 4","max_tokens":20,"seed":4}'; alone=$(text_of body)
pids=
for i in 1 2 3 4 5 6 7 8; do
    mkdir "d$i"
    (cd "d$i" && ask POST /v1/completions "{\"prompt\":\"alone $i\",\"max_tokens\":20,\"seed\":$i}"; text_of body >text; echo "$status" >status) &
    pids="$pids $!"
done
wait $pids
is "$(cat d?/status | sort -u)" 200 "eight at once"
is "$(cat d4/text)" "$alone" "one of eight, as alone"
stop

start --sessions 3
ask POST /v1/completions '{"prompt":"alone 4","max_tokens":20,"seed":4}'; is "$(text_of body)" "$alone" "a fresh server, the same text"

# a client that leaves: its text ends
before=$(counter cancelled_total)
exec 8<>/dev/tcp/127.0.0.1/$port
text='{"prompt":"x","max_tokens":1000000,"stream":true}'
printf 'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s' ${#text} "$text" >&8
head -c 2000 <&8 >/dev/null
exec 8<&- 8>&-
for _ in $(seq 100); do [ "$(counter cancelled_total)" != "$before" ] && break; sleep 0.05; done
is "$(counter cancelled_total)" "$((before + 1))" "a client that leaves"
is "$(counter active)" 0 "nothing runs on"
stop

# keys, body limit, time limit, a template
printf '%s' "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>" >template
start --api-key "secret key" --max-body 2000 --time-limit 2 -n 100000000 --chat-template template --origin https://good.example
ask GET /v1/models ''; refused 401 key "no key"
ask GET /v1/models '' 'Authorization: Bearer secret kex'; refused 401 key "a wrong key"
ask GET /v1/models '' 'Authorization: Bearer secret key'; is "$status" 200 "the key"
ask GET /health ''; is "$status" 200 "health needs no key"
ask POST /v1/completions "{\"prompt\":\"$(printf '%*s' 3000 '')\"}" 'Authorization: Bearer secret key'; refused 413 body "a large body"
ask GET /v1/models '' 'Authorization: Bearer secret key' 'Origin: https://good.example'; is "$status" 200 "an allowed origin"
grep -qi '^access-control-allow-origin: https://good.example' answer && pass || fault "no CORS header"
ask POST /v1/completions '{"prompt":"x","max_tokens":100000000}' 'Authorization: Bearer secret key'
is "$status" 200 "time limit"; has '"finish_reason":"length"' "time limit"
ask POST /v1/chat/completions '{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"max_tokens":4}' 'Authorization: Bearer secret key'
is "$status" 200 chat; has '"role":"assistant"' chat
ask POST /v1/chat/completions '{"messages":[{"role":"user","content":"hi"}],"max_tokens":4,"stream":true}' 'Authorization: Bearer secret key'
is "$status" 200 "chat stream"; has '"delta":{"role":"assistant"' "chat stream"; has '"object":"chat.completion.chunk"' "chat stream"
stop
expect 2 "other machines need a key" env STRAND_API_KEY= "$STRAND" serve -m "$model" --host 0.0.0.0 --port 0
expect 1 "no such host" env STRAND_API_KEY=k "$STRAND" serve -m "$model" --host no.such.host.invalid --port 0

if python=$(python_with openai); then
    start --chat-template template
    "$python" - "$port" >client 2>&1 <<'PY' && pass || fault "openai's client: $(tail -n 3 client)"
import sys, openai
c = openai.OpenAI(base_url=f"http://127.0.0.1:{sys.argv[1]}/v1", api_key="none")
name = c.models.list().data[0].id
assert c.completions.create(model=name, prompt="x", max_tokens=5, seed=1).usage.completion_tokens == 5
assert c.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}], max_tokens=5).choices[0].message.role == "assistant"
made = [e for e in c.chat.completions.create(model=name, messages=[{"role": "user", "content": "x"}], max_tokens=5, stream=True)]
assert made[-1].choices[0].finish_reason in ("length", "stop")
v = c.embeddings.create(model=name, input=["a", "b"]).data
assert len(v) == 2 and len(v[0].embedding) == len(v[1].embedding) > 8
try:
    c.completions.create(model=name, prompt="x", temperature=-3)
    raise SystemExit("no error")
except openai.BadRequestError:
    pass
PY
    stop
else
    note "Python's openai package is not here: its client is skipped"
fi
if have chromium && have node; then
    start
    timeout 120 node --experimental-websocket "$STRAND_SOURCE/tests/apps/page.mjs" "http://127.0.0.1:$port/" "$work/page.png" >page 2>node.err
    grep -q '^message user: Once upon a time' page && grep -q '^message assistant: ' page && grep -q '^note: .* 60 out' page && grep -q '^problems: 0' page && pass ||
        fault "the page: $(cat page; tail -n 3 node.err)"
    [ -s page-light.png ] && [ -s page-dark.png ] && pass || fault "no pictures of the page"
    stop
else
    note "Chromium or node is not here: the page is not opened"
fi
finish

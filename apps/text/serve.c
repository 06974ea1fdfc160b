/* serve.c - `strand serve`: a language model over HTTP, with the routes of the OpenAI interface. See serve.h for its parts. */
#include "serve.h"

#include "commands.h"
#include "progress.h"

#include <stdlib.h>
#include <string.h>

const char serve_page[] =
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>Strand</title>"
    "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:44em;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "#log p{white-space:pre-wrap;margin:.4em 0;padding:.5em .8em;border-radius:.5em;background:#f3f3f3}#log p.me{background:#e3eefc}"
    "form{display:flex;gap:.5em;position:sticky;bottom:0;background:#fff;padding:.6em 0}textarea{flex:1;font:inherit}button{font:inherit}"
    "@media(prefers-color-scheme:dark){body,form{background:#181818;color:#ddd}#log p{background:#262626}#log p.me{background:#1d3350}}</style>"
    "<h1 id=name>Strand</h1><div id=log aria-live=polite></div><form id=f><textarea id=t rows=2 aria-label=Message autofocus></textarea>"
    "<button id=go>Send</button><button id=stop type=button disabled>Stop</button></form><script>\n"
    "const $=i=>document.getElementById(i),said=[];let leave=null,key='';\n"
    "const head=()=>({'Content-Type':'application/json',...(key?{Authorization:'Bearer '+key}:{})});\n"
    "async function call(u,o){let r=await fetch(u,{...o,headers:head()});if(r.status==401){key=prompt('Key')||'';r=await fetch(u,{...o,headers:head()})}return r}\n"
    "call('/v1/models').then(r=>r.json()).then(m=>$('name').textContent=m.data[0].id).catch(()=>{});\n"
    "function show(text,me){const p=document.createElement('p');p.textContent=text;if(me)p.className='me';$('log').append(p);p.scrollIntoView();return p}\n"
    "$('t').addEventListener('keydown',e=>{if(e.key=='Enter'&&!e.shiftKey){e.preventDefault();$('f').requestSubmit()}});\n"
    "$('stop').onclick=()=>leave&&leave.abort();\n"
    "$('f').onsubmit=async e=>{e.preventDefault();const text=$('t').value;if(!text||leave)return;$('t').value='';show(text,1);said.push({role:'user',content:text});\n"
    "const p=show('');let made='';leave=new AbortController();$('stop').disabled=false;\n"
    "try{const r=await call('/v1/chat/completions',{method:'POST',signal:leave.signal,body:JSON.stringify({messages:said,stream:true,max_tokens:512})});\n"
    "if(!r.ok)throw new Error((await r.json()).error.message);const reader=r.body.getReader(),d=new TextDecoder();let rest='';\n"
    "for(;;){const{done,value}=await reader.read();if(done)break;rest+=d.decode(value,{stream:true});const lines=rest.split('\\n');rest=lines.pop();\n"
    "for(const l of lines){if(!l.startsWith('data: ')||l=='data: [DONE]')continue;const c=JSON.parse(l.slice(6));if(c.error)throw new Error(c.error.message);\n"
    "made+=(c.choices[0]&&c.choices[0].delta.content)||'';p.textContent=made;p.scrollIntoView()}}}\n"
    "catch(x){if(x.name!='AbortError')p.textContent=made+'\\n'+x.message}\n"
    "said.push({role:'assistant',content:made});leave=null;$('stop').disabled=true;$('t').focus()};\n"
    "</script></html>\n";

static int start(server *s) {
    const options *o = s->settings;
    size_t n;
    s->rows = o->sessions;
    s->queue_limit = o->queue;
    s->context = text_context(&s->rt);
    if (o->chat_template) {
        if (text_read(o->chat_template, (size_t)1 << 20, &s->template, &n)) return -1;
        char *ended = realloc(s->template, n + 1);
        if (!ended) return complain("out of memory"), -1;
        s->template = ended;
        ended[n] = 0;
    }
    s->engine = engine_open(&s->rt, s->rows, 0);
    return s->engine && !work_start(s) ? 0 : -1;
}

int run_serve(const options *settings) {
    server s = {.settings = settings};
    if (settings->port > 65535) return complain("serve: --port must be 0 to 65535"), EXIT_USAGE;
    int open = settings->host && strncmp(settings->host, "127.", 4) && strcmp(settings->host, "::1");
    if (open && !settings->api_key) return complain("serve: an address that others can reach wants --api-key KEY"), EXIT_USAGE;
    int rc = text_open(&s.rt, settings);
    if (rc) return rc;
    rc = start(&s) ? EXIT_FAILED : http_serve(&s) ? (work_stop(&s), EXIT_FAILED) : EXIT_DONE;
    engine_close(s.engine);
    free(s.template);
    runtime_close(&s.rt);
    return rc;
}

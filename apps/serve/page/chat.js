"use strict";
const at = id => document.getElementById(id);
let model = null, messages = [], story = "", running = null;

function headers() {
  const h = { "Content-Type": "application/json" };
  if (at("key").value) h.Authorization = "Bearer " + at("key").value;
  return h;
}

function add(kind, text) {
  const div = document.createElement("div");
  div.className = kind === "note" ? "note" : "message " + kind;
  div.textContent = text;
  at("log").append(div);
  div.scrollIntoView({ block: "end" });
  return div;
}

async function start() {
  const answer = await fetch("v1/models", { headers: headers() });
  if (answer.status === 401) {
    at("keyLabel").hidden = false;
    at("mode").textContent = "this server asks for a key";
    return;
  }
  model = (await answer.json()).data[0];
  at("name").textContent = model.id;
  document.title = model.id + " - Strand";
  at("mode").textContent = model.strand.chat ? "chat" : "this model goes on from your text";
}

async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const line = text.slice(0, end);
      if (line === "data: [DONE]") return;
      if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
    }
  }
}

async function send(text) {
  const chat = model.strand.chat;
  const body = { model: model.id, stream: true, temperature: Number(at("temperature").value), max_tokens: Number(at("tokens").value), stream_options: { include_usage: true } };
  add("user", text);
  if (chat) {
    messages.push({ role: "user", content: text });
    body.messages = messages;
  } else {
    story += text;
    body.prompt = story;
  }
  const box = add("assistant", "");
  const begun = performance.now();
  let made = "", usage = null;
  running = new AbortController();
  at("send").hidden = true;
  at("stop").hidden = false;
  try {
    const answer = await fetch(chat ? "v1/chat/completions" : "v1/completions", { method: "POST", headers: headers(), body: JSON.stringify(body), signal: running.signal });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    for await (const event of events(answer)) {
      if (event.error) throw new Error(event.error.message);
      if (event.usage) usage = event.usage;
      const choice = event.choices && event.choices[0];
      if (!choice) continue;
      made += chat ? choice.delta.content || "" : choice.text;
      box.textContent = made;
      box.scrollIntoView({ block: "end" });
    }
  } catch (error) {
    if (error.name !== "AbortError") add("error", error.message);
  }
  if (chat) messages.push({ role: "assistant", content: made });
  else story += made;
  if (usage) {
    const cached = usage.prompt_tokens_details ? usage.prompt_tokens_details.cached_tokens : 0;
    add("note", usage.prompt_tokens + " tokens in (" + cached + " already run), " + usage.completion_tokens + " out, " + ((performance.now() - begun) / 1000).toFixed(1) + " s");
  }
  if (!made) box.remove();
  running = null;
  at("send").hidden = false;
  at("stop").hidden = true;
  at("text").focus();
}

async function submit() {
  const text = at("text").value;
  if (!text || running) return;
  if (!model) await start();
  if (!model) return;
  at("text").value = "";
  await send(text);
}

at("form").addEventListener("submit", event => { event.preventDefault(); submit(); });
at("text").addEventListener("keydown", event => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); submit(); }
});
at("stop").addEventListener("click", () => { if (running) running.abort(); });
at("new").addEventListener("click", () => { messages = []; story = ""; at("log").replaceChildren(); at("text").focus(); });
start().catch(error => add("error", error.message));

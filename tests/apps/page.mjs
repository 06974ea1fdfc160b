// page.mjs URL OUT.png: opens the server's page in headless Chromium, sends a text, waits for the answer, writes what stands there to the
// standard output and pictures of it, light and dark, beside OUT. Node 22, or 20 with --experimental-websocket.
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
const [url, out] = process.argv.slice(2);
const browser = spawn(process.env.CHROMIUM || "chromium", ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--user-data-dir=" + out + ".profile", "--window-size=900,760", "about:blank"]);
const address = await new Promise((done, fail) => { let text = ""; browser.stderr.on("data", d => { text += d; const m = text.match(/ws:\/\/\S+/); if (m) done(m[0]); }); setTimeout(() => fail("no browser"), 60000); });
const port = address.match(/:(\d+)\//)[1];
const page = (await (await fetch(`http://127.0.0.1:${port}/json/list`)).json()).find(t => t.type === "page");
const ws = new WebSocket(page.webSocketDebuggerUrl);
await new Promise(done => ws.onopen = done);
let n = 0; const waiting = {}; const problems = [];
ws.onmessage = e => { const m = JSON.parse(e.data); if (m.id) waiting[m.id](m.result || m.error); else if (m.method === "Runtime.exceptionThrown" || m.method === "Log.entryAdded") problems.push(JSON.stringify(m.params).slice(0, 300)); };
const call = (method, params = {}) => new Promise(done => { waiting[++n] = done; ws.send(JSON.stringify({ id: n, method, params })); });
const js = async text => (await call("Runtime.evaluate", { expression: text, awaitPromise: true, returnByValue: true })).result.value;
await call("Runtime.enable"); await call("Log.enable"); await call("Page.enable");
await call("Page.navigate", { url });
for (let i = 0; i < 100 && !(await js("model !== null")); i++) await new Promise(d => setTimeout(d, 100));
await js(`at("tokens").value = 60; at("temperature").value = 0; at("text").value = "Once upon a time"; submit()`);
for (let i = 0; i < 200 && !(await js("running === null")); i++) await new Promise(d => setTimeout(d, 100));
console.log(await js(`[...document.querySelectorAll(".message,.note")].map(e => e.className + ": " + e.textContent).join("\\n")`));
for (const scheme of ["light", "dark"]) {
  await call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  writeFileSync(out.replace(/\.png$/, `-${scheme}.png`), Buffer.from((await call("Page.captureScreenshot")).data, "base64"));
}
console.log("problems: " + problems.length + " " + problems.join(" "));
browser.kill(); process.exit(0);

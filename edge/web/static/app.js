// The call page. One call at a time: offer -> answer -> audio, with a socket for what is said and how long it took.

const STAGES = [
  ["pause", "Pause"], ["queue", "Wait"], ["recognise", "Recognise"], ["understand", "Understand"],
  ["prepare", "Prepare speech"], ["send", "Send"],
];
const ACTIVITIES = {
  connecting: "Connecting", listening: "Listening", thinking: "Thinking", speaking: "Speaking",
  transferring: "Transferring you",
};
const TARGET_MS = 320;
const GATHERING_LIMIT_MS = 1500;
const CONNECT_LIMIT_MS = 12000;

const $ = (id) => document.getElementById(id);
let agents = [];
let call = null;

class Problem extends Error {}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function showProblem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function loadAgents() {
  try {
    const response = await fetch("api/agents");
    if (!response.ok) throw new Problem((await response.json()).hint);
    agents = await response.json();
  } catch (error) {
    showProblem(error instanceof Problem ? error.message : "The node does not answer. Check your network, then reload this page.");
    return;
  }
  for (const [index, agent] of agents.entries()) {
    const label = element("label");
    const choice = element("input");
    Object.assign(choice, { type: "radio", name: "agent", value: agent.name, checked: index === 0 });
    label.append(choice, element("strong", "", agent.title), element("span", "", agent.description));
    $("agents").append(label);
  }
  if (!agents.length) showProblem("This node has no agents yet. Add an agent document to it, then reload this page.");
  $("call").disabled = !agents.length;
}

async function openMicrophone() {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Problem("Browsers give the microphone only to secure pages. Open this page over https://, or on the node itself as http://localhost.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
    });
  } catch (error) {
    if (error.name === "NotAllowedError") throw new Problem("The microphone is blocked. Allow it for this page in your browser's address bar, then call again.");
    if (error.name === "NotFoundError") throw new Problem("No microphone was found. Plug one in, then call again.");
    throw new Problem("The microphone cannot be used. Close other programs that use it, then call again.");
  }
}

async function gathered(connection) {
  if (connection.iceGatheringState === "complete") return;
  await new Promise((resolve) => {
    setTimeout(resolve, GATHERING_LIMIT_MS);
    connection.addEventListener("icegatheringstatechange", () => connection.iceGatheringState === "complete" && resolve());
  });
}

async function askNode(agent, sdp) {
  let response;
  try {
    response = await fetch("api/calls", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ agent, sdp }),
    });
  } catch {
    throw new Problem("The node does not answer. Check your network, then call again.");
  }
  if (response.status === 503) {
    throw new Problem(`All lines are busy. Please call again in ${response.headers.get("Retry-After") || 20} seconds.`);
  }
  const body = await response.json();
  if (!response.ok) throw new Problem(`${body.message}. ${body.hint}`);
  return body;
}

async function startCall() {
  const agent = agents.find((each) => each.name === document.querySelector("[name=agent]:checked").value);
  const mine = { connection: null, microphone: null, socket: null, digits: null, stopped: false, timers: [] };
  call = mine;
  showProblem("");
  enterCall(agent);
  try {
    mine.microphone = await openMicrophone();
    mine.connection = new RTCPeerConnection();
    for (const track of mine.microphone.getAudioTracks()) mine.connection.addTrack(track, mine.microphone);
    mine.digits = mine.connection.createDataChannel("digits");
    mine.connection.addEventListener("track", ({ streams }) => { $("voice").srcObject = streams[0]; });
    mine.connection.addEventListener("connectionstatechange", () => connectionChanged(mine));
    await mine.connection.setLocalDescription();
    await gathered(mine.connection);
    const answer = await askNode(agent.name, mine.connection.localDescription.sdp);
    if (mine.stopped) return;
    watch(mine, answer);
    await mine.connection.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    mine.timers.push(setTimeout(() => {
      if (mine.connection.connectionState !== "connected") {
        showProblem("Audio cannot reach the node. A firewall may block UDP between this computer and the node.");
        leaveCall(mine);
      }
    }, CONNECT_LIMIT_MS));
  } catch (error) {
    if (mine.stopped) return;
    showProblem(error instanceof Problem ? error.message : `The call could not be started (${error.message}). Reload the page and call again.`);
    leaveCall(mine);
  }
}

function connectionChanged(mine) {
  const state = mine.connection.connectionState;
  if (state === "connected") {
    setActivity("listening");
    startClock(mine);
    startMeter(mine);
  } else if (state === "failed" && !mine.stopped) {
    showProblem("The connection to the node was lost. Check your network, then call again.");
    leaveCall(mine);
  }
}

function watch(mine, answer) {
  const url = new URL(`api/calls/${answer.call_id}/events`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  mine.socket = new WebSocket(url, ["borough.events", answer.token]);
  mine.socket.addEventListener("message", ({ data }) => show(mine, JSON.parse(data)));
}

function show(mine, event) {
  if (event.type === "state_changed") setActivity(event.activity);
  else if (event.type === "caller_said") say("caller", "You", event.seq, event.text, { partial: !event.is_final });
  else if (event.type === "agent_said") say("agent", $("who").textContent, event.seq, event.text, { interrupted: event.was_interrupted });
  else if (event.type === "turn_timed") drawTurn(mine, event.seq, event.timings);
  else if (event.type === "call_ended") {
    if (event.outcome === "failed" && !mine.stopped) showProblem(`The call ended: ${event.reason}. Please call again.`);
    leaveCall(mine);
  }
}

function say(role, speaker, seq, text, { partial = false, interrupted = false }) {
  const list = $("transcript");
  const id = `${role}-${seq}`;
  let line = list.querySelector(`[data-turn="${id}"]`);
  if (!line) {
    line = element("li");
    line.dataset.turn = id;
    line.append(element("span", "speaker", speaker), element("p"));
    list.append(line);
  }
  line.className = role;
  line.classList.toggle("partial", partial);
  line.classList.toggle("interrupted", interrupted);
  line.querySelector("p").textContent = text;
  list.scrollTop = list.scrollHeight;
}

function drawTurn(mine, seq, timings) {
  if (timings.sent_ms === null) return;
  const known = (name) => timings[name] ?? 0;
  const spent = [known("pause_seen_ms"), known("recognise_queue_ms"), known("recognise_compute_ms"), known("understand_ms")];
  const ready = timings.audio_ready_ms ?? timings.sent_ms;
  const sum = spent.reduce((a, b) => a + b, 0);
  const parts = [...spent, Math.max(0, ready - sum), Math.max(0, timings.sent_ms - Math.max(ready, sum))];
  mine.turns = [...(mine.turns ?? []), { seq, total: timings.sent_ms, parts }];
  const totals = mine.turns.map((turn) => turn.total).sort((a, b) => a - b);
  const middle = (totals.length - 1) / 2;
  const median = Math.round((totals[Math.floor(middle)] + totals[Math.ceil(middle)]) / 2);
  $("last").textContent = `${timings.sent_ms} ms`;
  $("median").textContent = `${median} ms`;
  const scale = Math.max(480, ...mine.turns.map((turn) => turn.total));
  $("waterfall").replaceChildren(...mine.turns.slice(-12).map((turn) => turnBar(turn, scale)));
}

function turnBar(turn, scale) {
  const row = element("li");
  const bar = element("div", "bar");
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", STAGES.map(([, name], index) => `${name} ${turn.parts[index]} ms`).join(", "));
  turn.parts.forEach((ms, index) => {
    const part = element("span", STAGES[index][0]);
    part.style.width = `${(100 * ms) / scale}%`;
    part.title = `${STAGES[index][1]}: ${ms} ms`;
    bar.append(part);
  });
  const target = element("span", "target");
  target.style.left = `${(100 * TARGET_MS) / scale}%`;
  bar.append(target);
  row.append(element("span", "muted", String(turn.seq)), bar, element("span", "total", `${turn.total} ms`));
  return row;
}

function setActivity(activity) {
  $("stage").dataset.activity = activity;
  $("activity").textContent = ACTIVITIES[activity] ?? activity;
}

function startClock(mine) {
  const began = Date.now();
  mine.timers.push(setInterval(() => {
    const seconds = Math.floor((Date.now() - began) / 1000);
    $("clock").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }, 500));
}

function startMeter(mine) {
  mine.context = new AudioContext();
  const analyser = mine.context.createAnalyser();
  analyser.fftSize = 512;
  mine.context.createMediaStreamSource(mine.microphone).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  mine.timers.push(setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const level = Math.sqrt(samples.reduce((sum, value) => sum + value * value, 0) / samples.length);
    $("level").style.transform = `scale(${1 + Math.min(0.25, level * 2)})`;
  }, 60));
}

function enterCall(agent) {
  $("who").textContent = agent.title;
  $("about").textContent = agent.description;
  $("transcript").replaceChildren();
  $("waterfall").replaceChildren();
  $("last").textContent = $("median").textContent = "–";
  $("clock").textContent = "0:00";
  setActivity("connecting");
  inCall(true);
  $("hangup").focus();
}

function leaveCall(mine) {
  if (mine.stopped) return;
  mine.stopped = true;
  mine.timers.forEach((timer) => { clearTimeout(timer); clearInterval(timer); });
  if (mine.socket?.readyState === WebSocket.OPEN) mine.socket.send(JSON.stringify({ type: "hang_up" }));
  mine.socket?.close();
  mine.connection?.close();
  mine.microphone?.getTracks().forEach((track) => track.stop());
  mine.context?.close();
  $("voice").srcObject = null;
  if ($("transcript").childElementCount) $("transcript").append(element("li", "notice", `Call ended after ${$("clock").textContent}`));
  $("who").textContent = "Call an agent";
  $("about").textContent = "Choose who should answer.";
  inCall(false);
  $("call").focus();
}

function inCall(is) {
  for (const id of ["stage", "mute", "hangup", "keypad"]) $(id).hidden = !is;
  for (const id of ["agents", "call"]) $(id).hidden = is;
  $("mute").setAttribute("aria-pressed", "false");
  $("mute").textContent = "Mute";
}

function pressDigit(digit) {
  if (call?.digits?.readyState === "open") call.digits.send(digit);
}

function toggleMute() {
  const muted = $("mute").getAttribute("aria-pressed") !== "true";
  call?.microphone?.getAudioTracks().forEach((track) => { track.enabled = !muted; });
  $("mute").setAttribute("aria-pressed", String(muted));
  $("mute").textContent = muted ? "Unmute" : "Mute";
}

for (const digit of "123456789*0#") {
  const button = element("button", "", digit);
  button.type = "button";
  button.dataset.digit = digit;
  button.addEventListener("click", () => pressDigit(digit));
  $("keypad").append(button);
}
for (const [stage, name] of STAGES) $("key").append(element("li", stage, name));
$("call").addEventListener("click", startCall);
$("hangup").addEventListener("click", () => call && leaveCall(call));
$("mute").addEventListener("click", toggleMute);
document.addEventListener("keydown", (event) => {
  if (!$("keypad").hidden && /^[0-9*#]$/.test(event.key) && !event.ctrlKey && !event.metaKey) pressDigit(event.key);
});
window.addEventListener("pagehide", () => call && leaveCall(call));
await loadAgents();

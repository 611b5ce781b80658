// The page: records or takes files, asks the API, and draws its answers. Text from elsewhere is only ever text.

const LONGEST_TAKE_S = 120; // recordings in the page; files may be longer

let status = null; // what /api/status says

// ---- Elements ----

function element(tag, { text, ...attributes } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;

// No computed probability is certainty.
function likely(probability) {
  if (probability > 0.999) return "over 99.9 %";
  return probability < 0.001 ? "below 0.1 %" : percent(probability, 1);
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

// ---- Asking the server ----

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.status === 204) return null;
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    // what a proxy in between says is not JSON
  }
  if (!response.ok) throw new Error(answer?.error ?? `The server answers with the status ${response.status}.`);
  return answer;
}

function form(fields) {
  const data = new FormData();
  for (const [name, value] of fields) {
    if (value instanceof Blob) data.append(name, value, value.name);
    else data.append(name, value);
  }
  return data;
}

// ---- The microphone ----

// Mono 16-bit PCM in a WAV file: nothing is lost on the way to the network.
function wav(chunks, rate) {
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const view = new DataView(new ArrayBuffer(44 + 2 * length));
  const write = (place, text) => [...text].forEach((letter, i) => view.setUint8(place + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + 2 * length, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, 2 * length, true);
  let place = 44;
  for (const chunk of chunks) {
    for (const sample of chunk) {
      view.setInt16(place, Math.round(32767 * Math.max(-1, Math.min(1, sample))), true);
      place += 2;
    }
  }
  return view;
}

function whyNoMicrophone() {
  if (!window.isSecureContext) {
    return "Browsers give a microphone to https pages and to localhost alone. Open this page there, or choose files.";
  }
  if (!navigator.mediaDevices?.getUserMedia) return "This browser offers no microphone to pages. Choose files instead.";
  return null;
}

function explainMicrophone(error) {
  if (error.name === "NotAllowedError") return "The microphone is not allowed. Allow it in the address bar, or choose a file.";
  if (error.name === "NotFoundError") return "There is no microphone. Plug one in, or choose a file.";
  return `The microphone does not start (${error.message}). Choose a file instead.`;
}

class Microphone {
  // onBlock(samples, seconds) is called for each block; stop() gives the recording.
  static async open(onBlock) {
    const microphone = new Microphone();
    // The network was trained on voices as they are, not as a telephone cleans them.
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    microphone.stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    microphone.context = new AudioContext();
    await microphone.context.audioWorklet.addModule("/capture.js");
    microphone.chunks = [];
    microphone.length = 0;
    const capture = new AudioWorkletNode(microphone.context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    capture.port.onmessage = ({ data }) => {
      microphone.chunks.push(data);
      microphone.length += data.length;
      onBlock(data, microphone.length / microphone.context.sampleRate);
    };
    microphone.context.createMediaStreamSource(microphone.stream).connect(capture);
    return microphone;
  }

  stop() {
    this.stream.getTracks().forEach((track) => track.stop());
    this.context.close();
    const rate = this.context.sampleRate;
    const seconds = (this.length / rate).toFixed(1);
    return new File([wav(this.chunks, rate)], `recording of ${seconds} s`, { type: "audio/wav" });
  }
}

// ---- A field that records or takes files ----

class Recorder {
  constructor(place) {
    this.name = place.dataset.recorder;
    this.isMany = "many" in place.dataset;
    this.takes = [];
    this.root = document.getElementById("recorder").content.cloneNode(true).firstElementChild;
    this.find = (selector) => this.root.querySelector(selector);
    this.find("legend").textContent = place.dataset.legend;
    this.find("input").setAttribute("aria-label", `${place.dataset.legend}: choose a file`);
    this.find("input").multiple = this.isMany;
    if (this.isMany) this.find(".choose span").textContent = "Choose files";
    this.find(".record").addEventListener("click", () => (this.microphone ? this.finish() : this.record()));
    this.find(".record").disabled = whyNoMicrophone() !== null;
    this.find("input").addEventListener("change", ({ target }) => {
      this.take([...target.files]);
      target.value = "";
    });
    this.root.addEventListener("dragover", (event) => event.preventDefault());
    this.root.addEventListener("drop", (event) => {
      event.preventDefault();
      this.take([...event.dataTransfer.files]);
    });
    place.replaceWith(this.root);
  }

  async record() {
    this.complain("");
    const button = this.find(".record");
    button.disabled = true;
    try {
      let loudest = -60;
      this.microphone = await Microphone.open((block, seconds) => {
        const power = block.reduce((sum, sample) => sum + sample * sample, 0) / block.length;
        loudest = Math.max(loudest - 0.3, 10 * Math.log10(power + 1e-9)); // falls slowly, as the eye likes it
        this.find("meter").value = loudest;
        this.find(".clock").textContent = clock(seconds);
        if (seconds >= Math.min(LONGEST_TAKE_S, status?.max_seconds ?? LONGEST_TAKE_S)) this.finish();
      });
      this.show(true);
    } catch (error) {
      this.complain(explainMicrophone(error));
    }
    button.disabled = false;
  }

  finish() {
    if (!this.microphone) return;
    const { microphone } = this;
    this.microphone = null;
    this.show(false);
    this.take([microphone.stop()]);
  }

  show(isRecording) {
    this.find(".record").setAttribute("aria-pressed", String(isRecording));
    this.find(".record .what").textContent = isRecording ? "Stop" : "Record";
    this.find(".level").hidden = !isRecording;
    this.root.classList.toggle("recording", isRecording);
  }

  take(files) {
    if (!files.length) return;
    this.complain("");
    this.takes = this.isMany ? [...this.takes, ...files] : files.slice(0, 1);
    this.list();
  }

  list() {
    const list = this.find(".takes");
    list.querySelectorAll("audio").forEach((player) => URL.revokeObjectURL(player.src));
    list.replaceChildren(
      ...this.takes.map((file) => {
        const remove = element("button", { type: "button", class: "quiet", text: "Remove", "aria-label": `Remove ${file.name}` });
        remove.addEventListener("click", () => {
          this.takes = this.takes.filter((other) => other !== file);
          this.list();
          this.find(".record").focus();
        });
        const player = element("audio", { controls: "", preload: "metadata", "aria-label": file.name });
        player.src = URL.createObjectURL(file);
        return element("li", {}, element("span", { class: "name", text: file.name }), player, remove);
      }),
    );
  }

  clear() {
    this.takes = [];
    this.list();
  }

  complain(text) {
    this.find(".trouble").textContent = text;
  }

  // The files to send; stops a recording that still runs, and says what is missing.
  collect() {
    this.finish();
    if (!this.takes.length) this.complain("Record something, or choose a file.");
    return this.takes.map((file) => [this.name, file]);
  }
}

// ---- Answers ----

// A score among all scores, with the threshold: the eye sees how far apart they are.
function scale(score, threshold) {
  const low = Math.min(-0.2, score, threshold ?? 0);
  const share = (value) => (value - low) / (1 - low);
  const place = (value) => `${100 * share(value)}%`;
  const side = (value) => (share(value) > 0.8 ? "end" : share(value) < 0.2 ? "start" : "middle"); // where a label has room
  const words = threshold === null ? "" : `, the threshold is ${threshold.toFixed(2)}`;
  const bar = element("div", { class: threshold === null ? "scale" : "scale decided", role: "img", "aria-label": `The score is ${score.toFixed(2)} of at most 1${words}` });
  if (threshold !== null) {
    const same = element("span", { class: "above" });
    same.style.left = place(threshold);
    const mark = element("span", { class: "threshold" }, element("span", { class: side(threshold), text: `threshold ${threshold.toFixed(2)}` }));
    mark.style.left = place(threshold);
    bar.append(same, mark);
  }
  const mark = element("span", { class: "score" }, element("span", { class: side(score), text: score.toFixed(2) }));
  mark.style.left = place(score);
  bar.append(mark);
  return bar;
}

function heard(recordings) {
  const rows = recordings.map((one) => {
    const share = element("span", { class: "share", "aria-hidden": "true" }, element("span"));
    share.firstChild.style.width = `${one.duration_s ? (100 * one.speech_s) / one.duration_s : 0}%`;
    const level = one.level_dbfs < -100 ? "silent" : `${one.level_dbfs.toFixed(0)} dBFS`;
    const clipped = percent(one.clipped_share, one.clipped_share && one.clipped_share < 0.01 ? 2 : 0);
    const concerns = one.concerns.map((text) => element("span", { class: "concern", text }));
    return element(
      "li",
      {},
      element("span", { class: "name", text: one.name }),
      element("span", { class: "speech" }, share, `${one.speech_s.toFixed(1)} s of speech in ${one.duration_s.toFixed(1)} s`),
      element("span", { text: level }),
      element("span", { text: `${clipped} clipped` }),
      ...concerns,
    );
  });
  return element("ul", { class: "heard", "aria-label": "What was heard in the recordings" }, ...rows);
}

function verdict(kind, title, text) {
  return element("div", { class: `verdict ${kind}` }, element("p", { class: "title", text: title }), element("p", { text }));
}

function sayProbability(probability, score) {
  const words = probability === null ? "" : `Probability of the same speaker: ${likely(probability)}. `;
  return `${words}Score ${score.toFixed(3)}.`;
}

function drawComparison(answer) {
  const titles = { same: "Same speaker", different: "Different speakers", unsure: "Unsure" };
  const unknown = "No threshold is known: evaluate the network on a list of trials first.";
  const text = answer.reason ? `Not enough to decide: ${answer.reason}.` : answer.verdict === null ? unknown : sayProbability(answer.probability, answer.score);
  return [
    verdict(answer.verdict ?? "unsure", titles[answer.verdict] ?? `Score ${answer.score.toFixed(3)}`, text),
    scale(answer.score, answer.threshold),
    heard(answer.recordings),
  ];
}

function drawIdentification(answer) {
  const [best] = answer.candidates;
  const sure = (probability) => (probability === null ? "" : `Probability ${likely(probability)}. `);
  const nearest = best ? `The nearest is ${best.name} with a score of ${best.score.toFixed(3)}.` : "Nobody is enrolled yet.";
  const [kind, title, text] = answer.reason
    ? ["unsure", "Unsure", `Not enough to decide: ${answer.reason}.`]
    : {
        match: () => ["same", best.name, `${sure(best.probability)}Score ${best.score.toFixed(3)}.`],
        nobody: () => ["different", "Nobody enrolled", `${sure(answer.nobody)}${nearest}`],
        unsure: () => ["unsure", "Unsure", `${best.name}: ${likely(best.probability)}; nobody enrolled: ${likely(answer.nobody)}.`],
        null: () => ["unsure", "No threshold is known", `${nearest} Evaluate the network on a list of trials first.`],
      }[answer.verdict]();
  const rows = answer.candidates.map((one) =>
    element(
      "li",
      {},
      element("span", { class: "name", text: one.name }),
      element("span", { text: one.probability === null ? "" : likely(one.probability) }),
      scale(one.score, answer.threshold ?? status?.threshold ?? null),
    ),
  );
  const list = rows.length ? [element("ol", { class: "candidates", "aria-label": "The nearest speakers" }, ...rows)] : [];
  return [verdict(kind, title, text), ...list, heard([answer.recording])];
}

function drawEnrolment(speaker, recorders) {
  recorders.forEach((recorder) => recorder.clear());
  document.getElementById("name").value = "";
  showSpeakers();
  const warnings = speaker.warnings.map((text) => element("p", { class: "concern", text }));
  return [verdict("same", `${speaker.name} is enrolled`, describeSpeaker(speaker)), ...warnings];
}

function drawEmbedding({ embedding, recording }) {
  const text = JSON.stringify(embedding.map((value) => Number(value.toPrecision(6))));
  const link = element("a", { class: "button", download: `${recording.name}.json`, text: "Download as JSON" });
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  return [
    verdict("plain", `${embedding.length} numbers`, "Compare embeddings of one network by their cosine, after subtracting its mean."),
    element("pre", { tabindex: "0", "aria-label": "The embedding", text }),
    link,
    heard([recording]),
  ];
}

// ---- Forms ----

function connect(id, path, draw, fields = () => []) {
  const root = document.getElementById(id);
  if (!root) return;
  const recorders = [...root.querySelectorAll("[data-recorder]")].map((place) => new Recorder(place));
  const answer = root.querySelector(".answer");
  const button = root.querySelector(".ask");
  root.addEventListener("submit", async (event) => {
    event.preventDefault();
    const extra = fields(root);
    const files = recorders.map((recorder) => recorder.collect());
    if (extra === null || !files.every((list) => list.length)) return;
    const data = form([...extra, ...files.flat()]);
    answer.replaceChildren(element("p", { class: "waiting", text: "Listening …" }));
    button.disabled = true;
    try {
      answer.replaceChildren(...draw(await ask(path, { method: "POST", body: data }), recorders));
    } catch (error) {
      answer.replaceChildren(verdict("error", "No answer", error.message));
    }
    button.disabled = false;
  });
}

function readName(root) {
  const input = root.querySelector("#name");
  const name = input.value.trim();
  input.setAttribute("aria-invalid", String(!name));
  root.querySelector("#name-trouble").textContent = name ? "" : "Write the name of the speaker.";
  if (!name) input.focus();
  return name ? [["name", name]] : null;
}

// ---- Enrolled speakers ----

function describeSpeaker({ num_recordings, speech_s }) {
  return `${num_recordings} recording${num_recordings === 1 ? "" : "s"}, ${speech_s.toFixed(1)} s of speech`;
}

async function removeSpeaker(name) {
  const dialog = document.getElementById("remove");
  document.getElementById("remove-title").textContent = `Remove ${name}?`;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "remove") return;
  try {
    await ask(`/api/speakers?${new URLSearchParams({ name })}`, { method: "DELETE" });
    await showSpeakers();
  } catch (error) {
    document.getElementById("count").textContent = error.message;
  }
}

async function showSpeakers() {
  const list = document.getElementById("speakers");
  if (!list) return;
  const count = document.getElementById("count");
  try {
    const [speakers, { num_speakers }] = await Promise.all([ask("/api/speakers"), ask("/api/status")]);
    const listed = speakers.length < num_speakers ? `; the first ${speakers.length} are listed` : "";
    count.textContent = num_speakers ? `${num_speakers} enrolled${listed}` : "Nobody yet.";
    list.replaceChildren(
      ...speakers.map((speaker) => {
        const remove = element("button", { type: "button", class: "quiet", text: "Remove", "aria-label": `Remove ${speaker.name}` });
        remove.addEventListener("click", () => removeSpeaker(speaker.name));
        const about = element("span", { class: "about", text: describeSpeaker(speaker) });
        return element("li", {}, element("span", { class: "name", text: speaker.name }), about, remove);
      }),
    );
    document.getElementById("names").replaceChildren(...speakers.map(({ name }) => element("option", { value: name })));
  } catch (error) {
    count.textContent = error.message;
  }
}

// ---- Start ----

async function showStatus() {
  const state = document.getElementById("state");
  try {
    status = await ask("/api/status");
    const known = status.threshold === null ? "no threshold is known" : `threshold ${status.threshold.toFixed(2)}`;
    document.getElementById("network").textContent =
      `${status.network}: ${status.encoder} + ${status.pooling}, ${status.embedding_dim} dimensions, ` +
      `${status.sample_rate_hz / 1000} kHz, ${known}${status.calibrated ? ", calibrated" : ""}`;
    state.textContent = status.warm ? "Ready" : "Ready; the first answers take longer";
    state.className = status.warm ? "good" : "busy";
    if (!status.warm) setTimeout(showStatus, 2000);
  } catch (error) {
    state.textContent = error.message;
    state.className = "bad";
    setTimeout(showStatus, 5000);
  }
}

const missing = document.getElementById("no-microphone");
missing.textContent = whyNoMicrophone() ?? "";
missing.hidden = !missing.textContent;
connect("compare", "/api/verify", drawComparison);
connect("embed", "/api/embed", drawEmbedding);
connect("identify", "/api/identify", drawIdentification);
connect("enrol", "/api/speakers", drawEnrolment, readName);
showSpeakers();
showStatus();

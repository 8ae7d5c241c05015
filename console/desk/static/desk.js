// The desk's only script of its own: pokes, forms that end in a signature, and the passkey. It shows text, never markup.
(() => {
  "use strict";
  const csrf = document.querySelector('meta[name="desk-csrf"]').content;
  const said = document.getElementById("said");

  const make = (tag, text, kind) => {
    const element = document.createElement(tag);
    element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };

  function say(refusal) {
    said.replaceChildren(make("strong", refusal.title), make("code", refusal.code), make("p", refusal.message));
    for (const change of refusal.changes || []) {
      const row = make("p", change.name + ": ", "change");
      row.append(make("del", change.before), " → ", make("ins", change.after));
      said.append(row);
    }
    said.focus();
  }

  async function post(path, body, type) {
    const headers = { "X-Desk-Csrf": csrf, Accept: "application/json" };
    if (type) headers["Content-Type"] = type;
    const answer = await fetch(path, { method: "POST", headers, body, credentials: "same-origin" });
    if (answer.status === 204) return {};
    const value = await answer.json();
    if (!answer.ok) throw value;
    return value;
  }

  const postJson = (path, value) => post(path, JSON.stringify(value), "application/json");

  // A statement was made by the desk: ask the passkey for its challenge, or let the key file sign.
  async function finish(begun) {
    let answer = {};
    if (begun.get) {
      const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(begun.get);
      answer = (await navigator.credentials.get({ publicKey })).toJSON();
    }
    return postJson(begun.act, answer);
  }

  async function enrol(begun) {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(begun.create);
    const made = await navigator.credentials.create({ publicKey });
    return finish(await postJson(begun.created, made.toJSON()));
  }

  async function act(form, submitter) {
    const begun = await post(form.getAttribute("action"), new URLSearchParams(new FormData(form, submitter)));
    if (begun.create) return enrol(begun);
    return begun.act ? finish(begun) : begun;
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.hasAttribute("data-act")) return;
    event.preventDefault();
    const buttons = [...form.querySelectorAll("button")].filter((button) => !button.disabled);
    said.replaceChildren();
    try {
      const acting = act(form, event.submitter);
      buttons.forEach((button) => { button.disabled = true; });
      const done = await acting;
      if (done.goto) location.assign(done.goto);
      else location.reload();
    } catch (problem) {
      buttons.forEach((button) => { button.disabled = false; });
      say(problem.code && problem.title ? problem : { title: form.dataset.failed || "", code: problem.name || "", message: problem.message || "", changes: [] });
    }
  });

  document.addEventListener("click", (event) => {
    const holder = document.getElementById(event.target.dataset?.clone || "");
    if (!holder) return;
    const copy = holder.lastElementChild.cloneNode(true);
    for (const field of copy.querySelectorAll("input")) field.value = "";
    holder.append(copy);
    copy.querySelector("input").focus();
  });

  if (csrf) {
    let last = 0, waiting = 0;
    const poke = () => { waiting = 0; last = Date.now(); document.body.dispatchEvent(new Event("desk-poke")); };
    const pokes = new EventSource("/events");
    pokes.addEventListener("poke", () => {
      if (!waiting) waiting = setTimeout(poke, Math.max(0, 300 - (Date.now() - last)));
    });
    addEventListener("pagehide", () => pokes.close());
  }
})();

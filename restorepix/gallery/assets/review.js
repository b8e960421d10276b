"use strict";
// What restorepix review adds to the page: deciding, and painting a mask.
window.restorepixReview = (() => {
  const $ = (id) => document.getElementById(id);
  const rubylith = "#e2182d";
  let api = null;
  let isWaiting = false;
  let painting = null;  // { card, index, canvas, strokes, stroke, scale, erases }
  let size = 25;  // of the brush, 1 to 100; its radius grows with the square
  let tray = {};

  async function ask(path, body) {
    const answer = await fetch(path, body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    const value = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(value.error || `The server answered ${answer.status}.`);
    return value;
  }
  function explain(error) {
    return error instanceof TypeError ?
      "The server has ended. Start restorepix review again and open its new address." :
      error.message;
  }

  function build() {
    const { make } = api;
    const button = (label, key, title, act, more) => {
      const made = make("button", { type: "button", title, ...more }, label,
        make("kbd", {}, key));
      made.addEventListener("click", act);
      return made;
    };
    tray.accept = button("Accept", "A", "It is good as it is", () => decide("accepted"));
    tray.reject = button("Reject", "X", "Put the original into the output",
      () => decide("rejected"));
    tray.paint = button("Paint", "P", "Paint what is to be repainted, or take it away", start);
    tray.choices = make("div", { className: "controls choices", role: "group" },
      tray.accept, tray.reject, tray.paint);
    tray.choices.setAttribute("aria-label", "Decision");

    tray.brush = button("Brush", "D", "Add to the mask", () => setErases(false));
    tray.eraser = button("Eraser", "E", "Take away from the mask", () => setErases(true));
    tray.size = make("input", { type: "range", min: "1", max: "100", value: String(size) });
    tray.size.addEventListener("input", () => setSize(Number(tray.size.value)));
    tray.px = make("span", { className: "soft px" });
    tray.undo = button("Undo", "U", "Take the last stroke back", undo);
    tray.cancel = button("Cancel", "Esc", "Leave the mask as it was", stop);
    tray.apply = button("Repaint", "Enter", "Do this photograph again with the mask", apply,
      { className: "main" });
    tray.tools = make("div", { className: "controls choices", role: "group", hidden: true },
      tray.brush, tray.eraser,
      make("label", { className: "size" }, "Size", tray.size, tray.px),
      tray.undo, tray.cancel, tray.apply);
    tray.tools.setAttribute("aria-label", "Mask");
    tray.said = make("p", { className: "said" });
    tray.said.setAttribute("role", "status");
    $("tray").hidden = false;
    $("tray").append(tray.choices, tray.tools, tray.said);
  }

  function say(text, isBad) {
    tray.said.textContent = api.print(text);
    tray.said.classList.toggle("bad", Boolean(isBad));
  }
  function update(card) {
    const hasOutput = card.status !== "failed";
    tray.accept.disabled = isWaiting || !hasOutput;
    tray.reject.disabled = isWaiting || !hasOutput || !card.pixels;
    tray.paint.disabled = isWaiting || !card.size;
    tray.apply.disabled = isWaiting;
    tray.accept.setAttribute("aria-pressed", String(card.decision === "accepted"));
    tray.choices.hidden = Boolean(painting);
    tray.tools.hidden = !painting;
    $("viewer").classList.toggle("waiting", isWaiting);
  }

  async function decide(decision, more) {
    const index = api.current();
    const card = api.cards[index];
    if (isWaiting) return;
    if (decision === "accepted" && card.decision === "accepted") decision = "undecided";
    isWaiting = true;
    update(card);
    say({ rejected: "Putting the original back…", repainted: "Repainting…" }[decision] || "");
    try {
      const fresh = await ask("decide", { photo: index, decision, ...more });
      Object.assign(card, fresh, { page: fresh.page });
      if (painting && painting.index === index) stop();
      api.settle(index, decision === "accepted" || decision === "rejected");
      say({ accepted: "Accepted.", undecided: "Taken back.",
        rejected: "Rejected: the output is the original.",
        repainted: "Repainted, proved and written." }[decision]);
    } catch (error) {
      say(explain(error), true);
    }
    isWaiting = false;
    if (api.current() >= 0) update(api.cards[api.current()]);
  }

  // Painting. Strokes are kept in pixels of the photograph and drawn in those of the picture.
  function start() {
    const index = api.current();
    const card = api.cards[index];
    const picture = $("after");
    if (painting || isWaiting || !card.size) return;
    if (!picture.naturalWidth) {  // begin when it is there, if the same photograph is still shown
      const begin = () => { if (api.current() === index) start(); };
      picture.addEventListener("load", begin, { once: true });
      return;
    }
    const canvas = api.make("canvas", {
      className: "layer paint", width: Math.min(card.size[0], 1600 * card.size[0] / Math.max(...card.size)),
    });
    canvas.height = canvas.width * card.size[1] / card.size[0];
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "Mask: drag to paint");
    painting = { card, index, canvas, strokes: [], stroke: null, erases: false,
      scale: card.size[0] / canvas.width };
    const ring = api.make("div", { className: "ring", hidden: true });
    painting.ring = ring;
    $("frame").append(canvas, ring);
    $("frame").classList.add("painting");
    $("mask").hidden = true;
    canvas.addEventListener("pointerdown", press);
    canvas.addEventListener("pointermove", drag);
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);
    canvas.addEventListener("pointerleave", () => { ring.hidden = true; });
    setErases(false);
    setSize(size);
    draw();
    update(card);
    say("Paint over the damage: what is red will be repainted.");
  }
  function stop() {
    if (!painting) return;
    const { card, canvas, ring } = painting;
    painting = null;
    canvas.remove();
    ring.remove();
    $("frame").classList.remove("painting");
    api.redraw();
    update(card);
    say("");
  }
  function apply() {
    if (!painting || isWaiting) return;
    const { strokes, card } = painting;
    const round = (value) => Math.round(value * 10) / 10;
    decide("repainted", {
      page: card.page ? card.page[0] - 1 : 0,
      strokes: strokes.map((stroke) => ({ ...stroke, radius: round(stroke.radius),
        points: stroke.points.map((point) => point.map(round)) })),
    });
  }
  function undo() {
    if (!painting || isWaiting) return;
    painting.strokes.pop();
    draw();
  }
  function setErases(erases) {
    if (!painting) return;
    painting.erases = erases;
    tray.brush.setAttribute("aria-pressed", String(!erases));
    tray.eraser.setAttribute("aria-pressed", String(erases));
  }
  function radius() {
    return Math.min(2000, Math.max(1, (size / 100) ** 2 * 0.12 * Math.max(...painting.card.size)));
  }
  function setSize(value) {
    size = Math.min(100, Math.max(1, value));
    tray.size.value = String(size);
    if (!painting) return;
    const wide = Math.round(2 * radius());
    tray.px.textContent = `${wide} px`;
    tray.size.setAttribute("aria-valuetext", `${wide} pixels`);
    showRing();
  }
  function showRing(event) {
    const { ring, canvas, scale } = painting;
    if (event) {
      const box = canvas.getBoundingClientRect();
      ring.style.left = `${100 * (event.clientX - box.left) / box.width}%`;
      ring.style.top = `${100 * (event.clientY - box.top) / box.height}%`;
      ring.hidden = event.pointerType === "touch";
    }
    ring.style.width = `${100 * 2 * radius() / scale / canvas.width}%`;
  }
  function locate(event) {
    const { canvas, card } = painting;
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * card.size[0],
      (event.clientY - box.top) / box.height * card.size[1]];
  }
  function press(event) {
    if (event.button || isWaiting) return;
    event.preventDefault();
    painting.canvas.setPointerCapture(event.pointerId);
    painting.stroke = { erase: painting.erases, radius: radius(), points: [locate(event)] };
    painting.strokes.push(painting.stroke);
    paint(painting.stroke);
  }
  function drag(event) {
    if (!painting) return;
    showRing(event);
    if (!painting.stroke) return;
    const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    const from = painting.stroke.points.length - 1;
    for (const one of events.length ? events : [event]) painting.stroke.points.push(locate(one));
    paint({ ...painting.stroke, points: painting.stroke.points.slice(from) });
  }
  function lift() {
    if (painting) painting.stroke = null;
  }
  function paint(stroke) {
    const { canvas, scale } = painting;
    const pen = canvas.getContext("2d");
    pen.globalCompositeOperation = stroke.erase ? "destination-out" : "source-over";
    pen.strokeStyle = rubylith;
    pen.lineWidth = 2 * stroke.radius / scale;
    pen.lineCap = "round";
    pen.lineJoin = "round";
    pen.beginPath();
    const [x, y] = stroke.points[0];
    pen.moveTo(x / scale, y / scale);
    for (const point of stroke.points) pen.lineTo(point[0] / scale, point[1] / scale);
    pen.stroke();
  }
  function draw() {
    const { canvas, strokes } = painting;
    const pen = canvas.getContext("2d");
    pen.globalCompositeOperation = "source-over";
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const mask = $("mask");
    if (mask.getAttribute("src") && mask.naturalWidth) {
      pen.drawImage(mask, 0, 0, canvas.width, canvas.height);
    } else if (mask.getAttribute("src") && !mask.complete) {
      mask.addEventListener("load", () => { if (painting) draw(); }, { once: true });
    }
    strokes.forEach(paint);
  }
  document.addEventListener("keydown", (event) => {
    if (painting && (event.ctrlKey || event.metaKey) && event.key === "z") {
      event.preventDefault();
      undo();
    }
  });

  async function load(card, index) {
    if (card.size !== undefined) return;
    try {
      const fresh = await ask(`c/${index}`);
      if (card.size !== undefined) return;
      Object.assign(card, fresh);
      if (api.current() === index && !painting) {
        api.redraw();
        update(card);
      }
    } catch (error) {
      say(explain(error), true);
    }
  }

  const paintKeys = {
    d: () => setErases(false), e: () => setErases(true), u: undo, Enter: apply,
    "[": () => setSize(size - 5), "]": () => setSize(size + 5),
    ArrowLeft: () => {}, ArrowRight: () => {}, j: () => {}, k: () => {}, m: () => {},
  };
  const keys = { a: () => decide("accepted"), x: () => decide("rejected"), p: start };
  return {
    keys: [
      [["A"], "accept, and go on"],
      [["X"], "reject: the original goes into the output"],
      [["P"], "paint the mask; D brush, E eraser, [ and ] size, U undo"],
      [["Enter"], "while painting: repaint with the mask"],
    ],
    start(given) { api = given; build(); },
    show(card, index) { say(""); update(card); load(card, index); },
    leave: stop,
    escape() {
      if (!painting) return false;
      if (!isWaiting) stop();
      return true;
    },
    key(key, event) {
      const act = (painting ? paintKeys : keys)[key];
      if (!act) return false;
      // Enter presses the button that has the focus.
      if (key === "Enter" && event.target.matches("button, a")) return false;
      if (!event.repeat || key === "[" || key === "]") act();
      return true;
    },
    isBusy: () => Boolean(painting),
    zoom() {
      // The photograph itself takes the place of its smaller picture.
      const index = api.current();
      const card = api.cards[index];
      for (const name of ["before", "after"]) {
        if (!card.pictures[name] || $(name).dataset.full === card.pictures[name]) continue;
        $(name).dataset.full = card.pictures[name];
        const full = new Image();
        full.src = card.pictures[name].replace(`/${name}?`, `/full_${name}?`);
        full.decode().then(() => {
          if (api.current() === index && $(name).dataset.full === card.pictures[name]) {
            $(name).src = full.src;
          }
        }, () => {});
      }
    },
  };
})();

"use strict";
(() => {
  const { run, cards } = JSON.parse(document.getElementById("run").textContent);
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;

  // Pictures inside the page, by the address that they would have beside it.
  const embedded = new Map();
  for (const element of document.querySelectorAll("script[data-picture]")) {
    embedded.set(element.dataset.picture, element);
  }
  function locate(address) {
    const element = embedded.get(address);
    if (!element) return address;
    const type = address.endsWith(".png") ? "image/png" : "image/jpeg";
    return `data:${type};base64,${element.textContent}`;
  }

  // Elements are made of text, never of markup: a name is shown, whatever it contains.
  function make(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in element) element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== ""));
    return element;
  }

  // What cannot be seen, or would turn the text around it, is written out.
  const unseen = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
  const print = (text) => String(text).replace(
    unseen, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
  // A path may be broken after its slashes.
  const breakPath = (path) => print(path).split("/").flatMap(
    (part, index) => (index ? ["/", make("wbr"), part] : [part]));
  const number = (value) => value.toLocaleString("en");
  const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
  function percent(share) {
    const value = 100 * share;
    if (value > 0 && value < 0.01) return "under 0.01 %";
    return `${Number(value.toPrecision(2))} %`;
  }
  function size(bytes) {
    const units = ["B", "kB", "MB", "GB"];
    let unit = 0;
    while (bytes >= 1000 && unit < 3) { bytes /= 1000; unit += 1; }
    return `${unit ? bytes.toPrecision(3) : bytes} ${units[unit]}`;
  }

  const kinds = { scratch: "Scratches", text: "Text", watermark: "Watermarks", mask: "Given masks" };
  function listKinds(card) {
    const found = Object.keys(card.detected).filter((kind) => card.detected[kind].pixels > 0);
    return found.length || !card.pixels ? found : ["mask"];
  }
  const wantsLook = (card) => card.review.length > 0 && !card.decision;
  const confidence = (card) => Math.min(
    ...Object.values(card.detected).map((found) => found.confidence), 2);

  // The head of the page.
  function join(parts) {
    return parts.length < 2 ? parts.join("") :
      `${parts.slice(0, -1).join(", ")} and ${parts[parts.length - 1]}`;
  }
  function fillHead() {
    const of = (test) => cards.filter(test).length;
    $("title").textContent = print(run.title);
    const parts = ["restored", "unchanged", "skipped", "failed"]
      .map((status) => [of((card) => card.status === status), status])
      .filter(([many]) => many)
      .map(([many, status]) => (many === cards.length ? `all ${status}` : `${number(many)} ${status}`));
    const looks = of(wantsLook);
    $("summary").textContent = `${count(cards.length, "photograph")}` +
      (parts.length ? `: ${join(parts)}. ` : ". ") +
      (looks ? `${number(looks)} ${looks === 1 ? "wants" : "want"} a look.` : "");
    const restored = cards.filter((card) => card.status === "restored");
    const proved = restored.filter((card) => card.preserved && card.preserved !== "reencoded");
    const holes = restored.reduce((sum, card) => sum + (card.holes || 0), 0);
    if (restored.length) {
      const which = proved.length === restored.length ?
        (restored.length === 1 ? "the restored file" : `all ${number(restored.length)} restored files`) :
        `${number(proved.length)} of ${count(restored.length, "restored file")}`;
      $("proof").textContent = `${count(holes, "hole")} repainted. ` +
        `Outside the masks nothing changed, proved on ${which}.`;
    }
    const when = run.finished ? new Date(run.finished) : null;
    $("made").textContent = [
      `restorepix ${run.version}`,
      when && !Number.isNaN(when.getTime()) ? when.toLocaleString("en-GB", {
        dateStyle: "long", timeStyle: "short", timeZone: "UTC" }) + " UTC" : "",
    ].filter(Boolean).join(" · ");
  }

  // The contact sheet.
  const sheet = $("sheet");
  const rows = [];
  function describe(card) {
    const parts = [];
    if (card.status === "failed") parts.push(make("span", { className: "bad" }, "failed"));
    else if (card.status === "restored" && card.holes === 0) parts.push("converted");
    else if (card.status === "restored") {
      parts.push(`${count(card.holes, "hole")} · ${percent(card.share)}`);
    } else parts.push(card.status);
    if (card.decision) {
      const style = card.decision === "rejected" ? "bad" : "good";
      parts.push(make("span", { className: style }, card.decision));
    } else if (wantsLook(card)) parts.push(make("span", { className: "look" }, "wants a look"));
    return parts.flatMap((part, index) => (index ? [" · ", part] : [part]));
  }
  function splitName(name) {
    const cut = name.lastIndexOf("/");
    return [name.slice(0, cut + 1), name.slice(cut + 1)];
  }
  const makeEmpty = () => make("span", { className: "empty" }, "no preview");
  function fillCard(card, index) {
    const [folder, name] = splitName(card.name);
    const { thumb } = card.pictures;
    let picture;
    if (thumb) {
      picture = make("img", { alt: "", loading: "lazy", decoding: "async" });
      if (card.size) {
        const scale = Math.min(1, 400 / Math.max(...card.size));
        picture.width = Math.round(card.size[0] * scale);
        picture.height = Math.round(card.size[1] * scale);
      }
      picture.src = locate(thumb);
      const made = picture;
      made.addEventListener("error", () => made.replaceWith(makeEmpty()), { once: true });
    } else picture = makeEmpty();
    const link = make("a", { href: `#${index + 1}`, tabIndex: -1, title: print(card.name) },
      make("span", { className: "cell" }, picture,
        card.pictures.before_thumb ? make("span", { className: "peek" }, "Before") : ""),
      make("span", { className: "cap" },
        make("span", { className: "num" }, number(index + 1)),
        make("span", { className: "name" },
          folder ? make("bdi", { className: "folder" }, print(folder)) : "",
          make("bdi", {}, print(name)),
          make("span", { className: "meta" }, ...describe(card)))));
    return link;
  }
  function fillSheet() {
    cards.forEach((card, index) => {
      rows.push(make("li", { className: "card" }, fillCard(card, index)));
    });
  }
  function refresh(index) {
    const had = rows[index].firstChild === document.activeElement;
    const tab = rows[index].firstChild.tabIndex;
    rows[index].replaceChildren(fillCard(cards[index], index));
    rows[index].firstChild.tabIndex = tab;
    if (had) rows[index].firstChild.focus();
    fillHead();
    countFilters();
  }

  // Pointing at a photograph shows what it was.
  function peek(event, isOver) {
    const link = event.target.closest && event.target.closest(".card a");
    if (!link || event.pointerType !== "mouse") return;
    const card = cards[rows.indexOf(link.parentNode)];
    const image = link.querySelector("img");
    if (!image || !card.pictures.before_thumb) return;
    if (isOver === link.classList.contains("peeking")) return;
    link.classList.toggle("peeking", isOver);
    image.src = locate(isOver ? card.pictures.before_thumb : card.pictures.thumb);
  }
  sheet.addEventListener("pointerover", (event) => peek(event, true));
  sheet.addEventListener("pointerout", (event) => {
    const link = event.target.closest(".card a");
    if (link && !link.contains(event.relatedTarget)) peek(event, false);
  });

  // Filters.
  const chosen = { state: "all", kind: null, text: "", order: "run" };
  const states = [
    ["all", "All", () => true],
    ["review", "Needs review", wantsLook],
    ["failed", "Failed", (card) => card.status === "failed"],
    ["unchanged", "Unchanged", (card) => card.status === "unchanged"],
    ["restored", "Restored", (card) => card.status === "restored"],
    ["skipped", "Skipped", (card) => card.status === "skipped"],
    ["undecided", "To decide", (card) => !card.decision],
    ["accepted", "Accepted", (card) => card.decision === "accepted"],
    ["rejected", "Rejected", (card) => card.decision === "rejected"],
    ["repainted", "Repainted", (card) => card.decision === "repainted"],
  ];
  const orders = {
    run: (index) => index,
    share: (index) => -(cards[index].share || 0),
    confidence: (index) => confidence(cards[index]),
  };
  const always = new Set(["all", "review", "failed", "unchanged"]);
  let visible = [];
  let numbers = [];

  function countFilters() {
    const some = cards.some((card) => card.decision);
    for (const button of $("states").children) {
      const [name, , test] = states.find(([state]) => state === button.value);
      const many = cards.filter(test).length;
      button.lastChild.textContent = number(many);
      const late = name === "undecided" && !run.review && !some;
      button.hidden = late || (!always.has(name) && !many && chosen.state !== name);
    }
    for (const button of $("kinds").children) {
      button.lastChild.textContent =
        number(cards.filter((card) => listKinds(card).includes(button.value)).length);
    }
  }
  function fillFilters() {
    for (const [name, label] of states) {
      const button = make("button", { type: "button", value: name }, label, make("span"));
      button.addEventListener("click", () => { chosen.state = name; filter(); });
      $("states").append(button);
    }
    const found = Object.keys(kinds).filter(
      (kind) => cards.some((card) => listKinds(card).includes(kind)));
    if (found.length > 1 || (found.length && found[0] !== "mask")) {
      for (const kind of found) {
        const button = make("button", { type: "button", value: kind }, kinds[kind], make("span"));
        button.addEventListener("click", () => {
          chosen.kind = chosen.kind === kind ? null : kind;
          filter();
        });
        $("kinds").append(button);
      }
    }
    countFilters();
  }
  function filter() {
    const [, , test] = states.find(([state]) => state === chosen.state);
    const text = chosen.text.normalize("NFC").toLowerCase();
    visible = [];
    cards.forEach((card, index) => {
      const shown = test(card) &&
        (!chosen.kind || listKinds(card).includes(chosen.kind)) &&
        (!text || card.name.normalize("NFC").toLowerCase().includes(text));
      if (shown) visible.push(index);
    });
    const key = orders[chosen.order];
    visible.sort((one, other) => key(one) - key(other) || one - other);
    // Hiding thousands of cards whose drawing is put off takes Chromium half a minute; leaving
    // them out of the sheet takes it a moment.
    const hadFocus = sheet.contains(document.activeElement);
    sheet.replaceChildren(...visible.map((index) => rows[index]));
    for (const button of $("states").children) {
      button.setAttribute("aria-pressed", String(button.value === chosen.state));
    }
    for (const button of $("kinds").children) {
      button.setAttribute("aria-pressed", String(button.value === chosen.kind));
    }
    $("count").textContent = `${count(visible.length, "photograph")} shown`;
    $("none").hidden = visible.length > 0;
    aim(visible.includes(aimed) ? aimed : visible[0]);
    if (hadFocus && aimed >= 0) rows[aimed].firstChild.focus();
  }
  $("find").addEventListener("input", () => { chosen.text = $("find").value.trim(); filter(); });
  $("order").addEventListener("change", () => { chosen.order = $("order").value; filter(); });

  // One stop of the tab key for the sheet; arrows move inside it.
  let aimed = -1;
  function aim(index) {
    if (aimed >= 0) rows[aimed].firstChild.tabIndex = -1;
    aimed = index === undefined ? -1 : index;
    if (aimed >= 0) rows[aimed].firstChild.tabIndex = 0;
  }
  function countColumns() {
    return getComputedStyle(sheet).gridTemplateColumns.split(" ").length;
  }
  sheet.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const place = visible.indexOf(aimed);
    const steps = {
      ArrowRight: 1, ArrowLeft: -1, ArrowDown: countColumns(), ArrowUp: -countColumns(),
      Home: -place, End: visible.length - 1 - place,
    };
    if (!(event.key in steps) || place < 0) return;
    event.preventDefault();
    const target = visible[place + steps[event.key]];
    if (target === undefined) return;
    aim(target);
    rows[target].firstChild.focus();
  });
  sheet.addEventListener("focusin", (event) => {
    const item = event.target.closest(".card");
    if (item) aim(rows.indexOf(item));
  });
  sheet.addEventListener("click", (event) => {
    const link = event.target.closest(".card a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const index = rows.indexOf(link.parentNode);
    aim(index);
    link.focus();
    history.pushState({ ours: true }, "", `#${index + 1}`);
    show(index);
  });

  // The viewer.
  const viewer = $("viewer"), frame = $("frame"), stage = $("stage"), split = $("split");
  let current = -1;
  let spot = -1;
  let isMaskShown = false;

  function show(index) {
    const card = cards[index];
    current = index;
    spot = -1;
    if (!viewer.open) {
      viewer.showModal();
      viewer.focus();
    }
    setZoom(1);
    hooks.leave();
    const place = visible.indexOf(index);
    $("viewer-place").textContent = place >= 0 ?
      `${number(place + 1)} of ${number(visible.length)}` : number(index + 1);
    $("viewer-name").textContent = print(card.name);
    $("previous").disabled = place <= 0;
    $("next").disabled = place < 0 || place === visible.length - 1;
    fillStage(card);
    fillFacts(card);
    hooks.show(card, index);
    for (const near of [visible[place + 1], visible[place - 1]]) {
      const pictures = near === undefined || place < 0 ? {} : cards[near].pictures;
      for (const name of ["after", "before"]) {
        if (pictures[name] && !embedded.has(pictures[name])) new Image().src = pictures[name];
      }
    }
  }
  function fillStage(card) {
    const { before, after, mask } = card.pictures;
    const any = after || before;
    frame.hidden = !any;
    $("blank").hidden = Boolean(any);
    $("blank").textContent = any ? "" : print(card.error || card.notes[0] || "There is no preview.");
    if (!any) { updateButtons(card); return; }
    const alone = !(before && after);
    frame.classList.toggle("alone", alone);
    setPicture($("after"), any);
    setPicture($("before"), before || any);
    setPicture($("mask"), mask);
    const kind = alone ? card.status === "failed" ? "original" : "picture" : "result";
    $("after").alt = `${print(card.name)}, ${kind}`;
    $("before").alt = alone ? "" : `${print(card.name)}, original`;
    if (card.size) frame.style.setProperty("--ratio", card.size[0] / card.size[1]);
    updateButtons(card);
  }
  function setPicture(image, address) {
    delete image.dataset.full;
    if (address) image.src = locate(address);
    else image.removeAttribute("src");
  }
  function updateButtons(card) {
    const { before, after, mask } = card.pictures;
    $("see-before").disabled = !(before && after);
    $("see-mask").disabled = !mask;
    $("next-hole").disabled = !(card.spots && card.spots.length);
    $("zoom").disabled = !(before || after);
    $("see-mask").setAttribute("aria-pressed", String(isMaskShown && Boolean(mask)));
    $("mask").hidden = !isMaskShown || !mask;
  }

  const kept = {
    exact: "every known pixel, bit for bit",
    coefficients: "every JPEG block that no mask touches",
    "lossless-rewrite": "every known pixel; written lossless, larger",
    reencoded: "encoded again: known pixels differ slightly",
  };
  function fillFacts(card) {
    const remarks = [];
    if (card.error) remarks.push(["bad", card.error]);
    for (const reason of card.review) remarks.push(["look", reason]);
    for (const note of card.notes) remarks.push(["soft", note]);
    $("remarks").replaceChildren(...remarks.map(
      ([style, text]) => make("p", { className: `remark ${style}` }, print(text))));
    const facts = [];
    const add = (name, ...value) => {
      if (value.some((part) => part !== null && part !== undefined && part !== "")) {
        facts.push(make("dt", {}, name), make("dd", {}, ...value));
      }
    };
    add("State", print(card.status + (card.code ? ` (${card.code})` : "")));
    add("Decision", card.decision);
    if (card.size) add("Size", `${number(card.size[0])} × ${number(card.size[1])} px`);
    if (card.page) add("Page", `${card.page[0]} of ${card.page[1]}`);
    if (card.holes) {
      add("Holes", `${number(card.holes)}, ${number(card.pixels)} px, ${percent(card.share)}`);
    }
    for (const [kind, found] of Object.entries(card.detected)) {
      add(kinds[kind] || print(kind),
        `${number(found.pixels)} px, ${Math.round(100 * found.confidence)} % sure`);
    }
    add("Method", { inpainted: "repainted", unblended: "overlay taken out", copied: "copied" }[card.method]);
    add("Kept", kept[card.preserved]);
    if (card.bytes[0] !== null) {
      add("File", card.bytes[1] === null || card.bytes[1] === card.bytes[0] ?
        size(card.bytes[0]) : `${size(card.bytes[0])} → ${size(card.bytes[1])}`);
    }
    if (card.seconds) add("Time", print(`${card.seconds} s${card.device ? ` on ${card.device}` : ""}`));
    if (card.known) {
      add("Proof", make("code", { title: "SHA-256 over all that is known" }, print(card.known)));
    }
    add("Original", ...breakPath(card.input));
    if (card.status !== "failed") add("Output", ...breakPath(card.output));
    $("list").replaceChildren(...facts);
    const links = Object.entries(card.files || {}).map(([name, address]) => make(
      "a", { href: address, target: "_blank", rel: "noreferrer" },
      name === "before" ? "Open the original" : "Open the output"));
    $("files").replaceChildren(...links);
  }

  function hide() {
    if (history.state && history.state.ours) history.back();
    else {
      history.replaceState(null, "", "#");
      sync();
    }
  }
  function sync() {
    const index = Number(location.hash.slice(1)) - 1;
    if (Number.isInteger(index) && index >= 0 && index < cards.length) {
      if (current !== index || !viewer.open) show(index);
    } else if (viewer.open) {
      hooks.leave();
      viewer.close();
      if (rows[current] && rows[current].isConnected) {
        aim(current);
        rows[current].firstChild.focus();
      }
      current = -1;
    }
  }
  function move(step) {
    const target = visible[visible.indexOf(current) + step];
    if (target === undefined || visible.indexOf(current) < 0) return;
    history.replaceState(history.state, "", `#${target + 1}`);
    show(target);
    aim(target);
    $("spoken").textContent = `${print(cards[target].name)}, ${cards[target].status}`;
  }
  window.addEventListener("popstate", sync);
  window.addEventListener("hashchange", sync);
  viewer.addEventListener("cancel", (event) => {
    event.preventDefault();
    if (!hooks.escape()) hide();
  });

  function setSplit(value) {
    split.value = value;
    frame.style.setProperty("--split", split.value);
    split.setAttribute("aria-valuetext", `${Math.round(split.value)} % before`);
  }
  split.addEventListener("input", () => setSplit(split.value));
  split.addEventListener("keydown", (event) => {
    // The arrows belong to the slider while it has the focus.
    if (/^(Arrow|Home|End|Page)/.test(event.key)) event.stopPropagation();
  });
  // After a drag with the pointer the arrows go back to the photographs.
  split.addEventListener("pointerup", () => split.blur());

  function setBlink(isOn) { frame.classList.toggle("blink", isOn && !frame.classList.contains("alone")); }
  $("see-before").addEventListener("pointerdown", () => setBlink(true));
  for (const name of ["pointerup", "pointerleave", "pointercancel"]) {
    $("see-before").addEventListener(name, () => setBlink(false));
  }
  $("see-before").addEventListener("keydown", (event) => {
    if (event.key === " " || event.key === "Enter") { setBlink(true); event.preventDefault(); }
  });
  $("see-before").addEventListener("keyup", () => setBlink(false));
  $("see-before").addEventListener("blur", () => setBlink(false));

  function toggleMask() {
    if ($("see-mask").disabled) return;
    isMaskShown = !isMaskShown;
    updateButtons(cards[current]);
  }
  $("see-mask").addEventListener("click", toggleMask);

  function toggleFacts() {
    const isWide = viewer.classList.toggle("wide");
    $("see-facts").setAttribute("aria-pressed", String(!isWide));
  }
  $("see-facts").addEventListener("click", toggleFacts);

  // Zoom: the frame grows, and is dragged around under the line.
  let zoom = 1;
  function setZoom(value, x = 0.5, y = 0.5) {
    zoom = value;
    const isOn = value > 1;
    viewer.classList.toggle("zoomed", isOn);
    frame.style.setProperty("--zoom", value);
    $("zoom").setAttribute("aria-pressed", String(isOn));
    if (isOn) {
      hooks.zoom();
      stage.scrollTo(frame.offsetLeft + x * frame.offsetWidth - stage.clientWidth / 2,
        frame.offsetTop + y * frame.offsetHeight - stage.clientHeight / 2);
    }
  }
  function chooseZoom() {
    const fitted = frame.offsetWidth / zoom;
    const natural = run.review && cards[current].size ?
      cards[current].size[0] : $("after").naturalWidth || fitted;
    return Math.max(2, natural / fitted / window.devicePixelRatio);
  }
  function toggleZoom(x, y) {
    if ($("zoom").disabled) return;
    const first = cards[current].spots && cards[current].spots[Math.max(spot, 0)];
    if (zoom > 1) setZoom(1);
    else if (x !== undefined) setZoom(chooseZoom(), x, y);
    else if (first) setZoom(chooseZoom(), first[0] + first[2] / 2, first[1] + first[3] / 2);
    else setZoom(chooseZoom());
  }
  function nextHole() {
    const spots = cards[current].spots || [];
    if (!spots.length) return;
    spot = (spot + 1) % spots.length;
    const [x, y, width, height] = spots[spot];
    const room = 0.7 * Math.min(
      stage.clientWidth / (width * frame.offsetWidth / zoom),
      stage.clientHeight / (height * frame.offsetHeight / zoom));
    setZoom(Math.max(1.5, Math.min(room, chooseZoom())), x + width / 2, y + height / 2);
    setSplit(100 * Math.min(1, Math.max(0, x + width / 2)));
    $("spoken").textContent = `Repair ${spot + 1} of ${spots.length}`;
  }
  $("zoom").addEventListener("click", () => toggleZoom());
  $("next-hole").addEventListener("click", nextHole);
  stage.addEventListener("dblclick", (event) => {
    if (hooks.isBusy()) return;
    const box = frame.getBoundingClientRect();
    toggleZoom((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });
  let grip = null;
  stage.addEventListener("pointerdown", (event) => {
    if (zoom === 1 || event.target === split || event.button || hooks.isBusy()) return;
    if (event.pointerType !== "mouse") return;  // fingers scroll by themselves
    grip = [event.clientX + stage.scrollLeft, event.clientY + stage.scrollTop];
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (grip) stage.scrollTo(grip[0] - event.clientX, grip[1] - event.clientY);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    stage.addEventListener(name, () => { grip = null; });
  }

  $("previous").addEventListener("click", () => move(-1));
  $("next").addEventListener("click", () => move(1));
  $("close").addEventListener("click", hide);

  // Keys.
  const keyTable = [
    [["←", "→"], "previous and next photograph; in the sheet: move"],
    [["Enter"], "open the photograph"],
    [["B"], "hold to see the original"],
    [["M"], "mask: what was repainted, in red"],
    [["N"], "go to the next repair"],
    [["Z"], "zoom in or out; so does a double click"],
    [["[", "]"], "move the line between before and after"],
    [["I"], "details"],
    [["/"], "find by name"],
    [["1", "…", "4"], "all, needs review, failed, unchanged"],
    [["Esc"], "back to the sheet"],
  ];
  function openKeys() {
    $("key-list").replaceChildren(...[...keyTable, ...hooks.keys].flatMap(([names, what]) => [
      make("dt", {}, ...names.map((name) => (name === "…" ? "… " : make("kbd", {}, name)))),
      make("dd", {}, what),
    ]));
    $("keys").showModal();
    $("keys").querySelector("form button").focus();
  }
  $("help").addEventListener("click", openKeys);

  const viewerKeys = {
    ArrowLeft: () => move(-1), ArrowRight: () => move(1), k: () => move(-1), j: () => move(1),
    b: () => setBlink(true), m: toggleMask, z: () => toggleZoom(), n: nextHole, i: toggleFacts,
    "[": () => setSplit(Number(split.value) - 5), "]": () => setSplit(Number(split.value) + 5),
  };
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const isTyping = event.target.matches("input[type=search], select, textarea");
    if (isTyping || $("keys").open) {
      if (event.key === "Escape" && event.target === $("find")) $("find").blur();
      return;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    // Speech input types letters that nobody means as keys, so they can be switched off.
    if (key.length === 1 && key !== " " && !$("letters").checked) return;
    if (key === "?") { event.preventDefault(); openKeys(); return; }
    if (viewer.open) {
      if (hooks.key(key, event)) { event.preventDefault(); return; }
      if (viewerKeys[key]) { event.preventDefault(); viewerKeys[key](); }
      return;
    }
    const tabs = ["all", "review", "failed", "unchanged"];
    if (key === "/") { event.preventDefault(); $("find").focus(); $("find").select(); }
    else if (/^[1-4]$/.test(key)) { chosen.state = tabs[Number(key) - 1]; filter(); }
  });
  document.addEventListener("keyup", (event) => {
    if (event.key.toLowerCase() === "b") setBlink(false);
  });
  window.addEventListener("blur", () => setBlink(false));

  const recall = (name) => {
    try { return localStorage.getItem(`restorepix-${name}`); } catch { return null; }
  };
  const remember = (name, value) => {
    try { localStorage.setItem(`restorepix-${name}`, value); } catch { /* not allowed */ }
  };
  $("letters").checked = recall("letters") !== "off";
  $("letters").addEventListener("change", () => {
    remember("letters", $("letters").checked ? "on" : "off");
  });

  // Light and dark.
  const themes = ["auto", "light", "dark"];
  let theme = recall("theme") || "auto";
  function setTheme() {
    if (!themes.includes(theme)) theme = "auto";
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    $("theme").textContent = { auto: "Auto", light: "Light", dark: "Dark" }[theme];
    $("theme").setAttribute("aria-label", `Colours: ${theme}`);
    $("theme").title = "Light, dark, or as the system is";
  }
  $("theme").addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    remember("theme", theme);
    setTheme();
  });

  // Pictures that were not scrolled to are needed on paper.
  window.addEventListener("beforeprint", () => {
    for (const image of sheet.querySelectorAll("img[loading=lazy]")) image.loading = "eager";
  });

  // What a review adds to the page (review.js); a report has nothing there.
  const nothing = () => undefined;
  const hooks = Object.assign({
    show: nothing, leave: nothing, zoom: nothing, escape: nothing, key: nothing, isBusy: nothing,
    keys: [], start: nothing,
  }, window.restorepixReview);

  setTheme();
  fillHead();
  fillFilters();
  fillSheet();
  setSplit(50);
  filter();
  hooks.start({
    cards, make, print,
    current: () => current,
    redraw() {
      if (current < 0) return;
      fillStage(cards[current]);
      fillFacts(cards[current]);
    },
    // A photograph has changed: show that, and perhaps go on to the next one.
    settle(index, goesOn) {
      const next = visible[visible.indexOf(index) + 1];
      refresh(index);
      filter();
      if (current !== index) return;
      if (goesOn && next !== undefined) {
        history.replaceState(history.state, "", `#${next + 1}`);
        show(next);
      } else show(index);
    },
  });
  sync();
})();

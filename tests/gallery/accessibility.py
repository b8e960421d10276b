"""What a page owes to people who use a keyboard, a screen reader, or weak eyes.

The checks follow WCAG 2.2: names (1.1.1, 4.1.2), labels (1.3.1), contrast of text (1.4.3), order of
the focus (2.4.3), headings (1.3.1), language (3.1.1) and the size of targets (2.5.8).
"""

from __future__ import annotations

from typing import Any

_SCRIPT = r"""
() => {
  const problems = [];
  const modal = [...document.querySelectorAll("dialog[open]")].pop();
  const scope = modal || document.body;
  const say = (what, element) => problems.push(
    `${what}: ${element.outerHTML.slice(0, 90).replace(/\s+/g, " ")}`);
  const isShown = (element) => element.checkVisibility(
    { visibilityProperty: true, opacityProperty: true, contentVisibilityAuto: false });
  const isSeen = (element) => {
    if (!isShown(element)) return false;
    const box = element.getBoundingClientRect();
    return box.width > 1 && box.height > 1;
  };
  const text = (element) => [...element.childNodes].map((node) =>
    node.nodeType === 3 ? node.data :
    node.nodeType === 1 && node.getAttribute("aria-hidden") !== "true" && isShown(node) ?
      (node.alt ?? text(node)) : "").join("").trim();
  const name = (element) => {
    const by = element.getAttribute("aria-labelledby");
    if (by) return by.split(/\s+/).map((id) => text(document.getElementById(id))).join(" ").trim();
    return (element.getAttribute("aria-label") || "").trim() ||
      (element.labels ? [...element.labels].map(text).join(" ").trim() : "") ||
      (element.matches("input, select") ? "" : text(element));
  };

  // Languages, titles, headings, identities.
  if (!document.documentElement.lang) problems.push("the page names no language");
  if (!document.title.trim()) problems.push("the page has no title");
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids.filter((id, index) => ids.indexOf(id) !== index))) {
    problems.push(`two elements are called ${id}`);
  }
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) say("a level of headings is left out", heading);
    level = next;
  }
  if (document.querySelectorAll("h1").length !== 1) problems.push("there is not one h1");
  if (document.querySelectorAll("main").length !== 1) problems.push("there is not one main");
  for (const attribute of ["aria-labelledby", "aria-controls", "aria-describedby", "for"]) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      for (const id of element.getAttribute(attribute).split(/\s+/)) {
        if (!document.getElementById(id)) say(`${attribute} names nothing`, element);
      }
    }
  }

  // Names and roles.
  const roles = new Set(["group", "status", "img", "alert"]);
  for (const element of scope.querySelectorAll("[role]")) {
    if (!roles.has(element.getAttribute("role"))) say("an unknown role", element);
    if (element.getAttribute("role") === "group" && isSeen(element) && !name(element)) {
      say("a group without a name", element);
    }
  }
  const controls = [...scope.querySelectorAll(
    "a[href], button, input, select, textarea, [tabindex]")].filter(isSeen);
  for (const control of controls) {
    const isRegion = control.matches("ul, aside");
    if (!name(control) && !(isRegion && control.getAttribute("aria-label"))) {
      say("a control without a name", control);
    }
    if (control.tabIndex > 0) say("a place in the order of its own", control);
  }
  for (const dialog of document.querySelectorAll("dialog[open], aside, section")) {
    if (!name(dialog)) say("a region without a name", dialog);
  }
  for (const image of scope.querySelectorAll("img")) {
    if (!image.hasAttribute("alt")) say("an image without alt", image);
  }
  for (const shown of scope.querySelectorAll("#after")) {
    if (isSeen(shown) && !shown.alt) say("a photograph without words", shown);
  }
  for (const list of scope.querySelectorAll("ul")) {
    if ([...list.children].some((child) => child.tagName !== "LI")) say("a broken list", list);
  }
  for (const list of scope.querySelectorAll("dl")) {
    if ([...list.children].some((child) => !["DT", "DD"].includes(child.tagName))) {
      say("a broken list", list);
    }
  }
  for (const element of scope.querySelectorAll("[aria-hidden=true]")) {
    if (element.querySelector("a, button, input, [tabindex]")) say("hidden, yet in order", element);
  }

  // The order of the focus follows reading: down, and to the right in a line.
  const stops = controls.filter((control) => control.tabIndex === 0 && !control.disabled &&
    !control.matches(".skip"));
  const lines = stops.map((stop) => stop.getBoundingClientRect());
  for (let index = 1; index < stops.length; index += 1) {
    const [above, below] = [lines[index - 1], lines[index]];
    const sideways = below.left >= above.left - 1 || below.top >= above.bottom - 1;
    if (below.bottom <= above.top && !sideways) say("focus jumps up", stops[index]);
  }

  // Targets.
  for (const control of controls) {
    const box = control.getBoundingClientRect();
    const isFree = control.matches(
      "p a, dd a, [tabindex='-1'], aside, ul, input[type=range], .skip");
    if (!isFree && (box.width < 24 || box.height < 24)) {
      say(`a small target (${Math.round(box.width)} x ${Math.round(box.height)})`, control);
    }
  }

  // Contrast of text with what is painted behind it.
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const lay = (top, under) => top.slice(0, 3).map(
    (value, index) => value * top[3] + under[index] * (1 - top[3]));
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const style = getComputedStyle(at);
      layers.push(parse(style.backgroundColor));
      if (layers[layers.length - 1][3] === 1) break;
    }
    return layers.reverse().reduce((under, layer) => lay(layer, under), [255, 255, 255]);
  };
  const walker = document.createTreeWalker(scope, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || seen.has(element) || !isSeen(element)) continue;
    seen.add(element);
    if (element.closest("script, style, noscript, :disabled, .hidden-label, .tag, .peek")) continue;
    const style = getComputedStyle(element);
    const under = behind(element);
    const ink = lay(parse(style.color), under);
    const [light, dark] = [luminance(ink), luminance(under)].sort((one, other) => other - one);
    const ratio = (light + 0.05) / (dark + 0.05);
    const isLarge = parseFloat(style.fontSize) >= 24;
    if (ratio < (isLarge ? 3 : 4.5)) say(`contrast ${ratio.toFixed(2)}`, element);
  }
  return [...new Set(problems)];
}
"""


def find_problems(page: Any) -> list[str]:
    """Return what is wrong with the page, or with the dialog that is open on it."""
    return page.evaluate(_SCRIPT)

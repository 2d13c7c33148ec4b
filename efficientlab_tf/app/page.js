// What a hand does on the picture: points, strokes of a brush, boxes, polygons; and keys.
// Each gesture goes to the server as a line of JSON in an element that nobody sees; its
// places are rows and columns in parts of what the picture shows, 0 to 1.
() => {
  const NEAR = 12; // pixels: a click on a polygon's first corner closes it
  const SMALL = 4; // pixels: a box is larger
  const KEYS = {
    z: "#undo", n: "#forth", p: "#back", m: "#plain",
    "+": "#larger", "=": "#larger", "-": "#smaller",
  };
  const TOOLS = { d: 0, r: 1, x: 2, g: 3 };
  const ARROWS = {
    ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
  };
  const find = (selector) => document.querySelector(selector);
  const picture = () => find("#canvas img");
  const tool = () => find("#tool input:checked")?.value ?? "point";
  let places = []; // of the shape that is being drawn
  let down = false; // a button or finger is down on the picture
  let turned = 0; // when the wheel was turned last, in ms

  const preview = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  preview.setAttribute("aria-hidden", "true");
  preview.id = "preview";
  document.body.append(preview);
  document.querySelectorAll(".behind").forEach((element) => { element.inert = true; });
  find("#status").setAttribute("aria-live", "polite");
  // Gradio names these otherwise than what one reads on them.
  const rename = () => {
    const named = "#gallery button[aria-label], #upload button[aria-label]";
    document.querySelectorAll(named).forEach((one) => one.removeAttribute("aria-label"));
    document.querySelectorAll("#gallery img:not([alt=''])")
      .forEach((image) => { image.alt = ""; });
  };
  const changes = { attributeFilter: ["aria-label", "alt"], childList: true, subtree: true };
  new MutationObserver(rename).observe(document.body, changes);
  rename();

  // Where the picture itself is: it is fitted into its element.
  const frame = () => {
    const image = picture(), box = image.getBoundingClientRect();
    const wide = image.naturalWidth, high = image.naturalHeight;
    const scale = Math.min(box.width / wide, box.height / high);
    const width = wide * scale, height = high * scale;
    const left = box.left + (box.width - width) / 2;
    return { left, top: box.top + (box.height - height) / 2, width, height };
  };
  const place = (event) => {
    const own = frame();
    const row = (event.clientY - own.top) / own.height;
    return [row, (event.clientX - own.left) / own.width];
  };
  const pixels = ([row, column]) => {
    const own = frame();
    return [own.left + column * own.width, own.top + row * own.height];
  };
  const apart = (one, other) => {
    const [x, y] = pixels(one), [u, v] = pixels(other);
    return Math.hypot(x - u, y - v);
  };
  const inside = (at) => at.every((value) => value >= 0 && value <= 1);

  const send = (gesture) => {
    const input = find("#gesture textarea, #gesture input");
    const type = input.tagName === "INPUT" ? HTMLInputElement : HTMLTextAreaElement;
    gesture.at = performance.now(); // So that no two are the same.
    Object.getOwnPropertyDescriptor(type.prototype, "value")
      .set.call(input, JSON.stringify(gesture));
    input.dispatchEvent(new Event("input", { bubbles: true }));
  };
  const drop = () => { places = []; down = false; draw(); };
  const finish = () => {
    const own = tool(), done = places;
    drop();
    if (own === "polygon" && done.length < 3) return;
    send({ tool: own, places: done });
  };
  const corners = ([[top, left], [bottom, right]]) =>
    [[top, left], [top, right], [bottom, right], [bottom, left]];

  const draw = () => {
    preview.replaceChildren();
    if (!places.length || !picture()) return;
    const own = tool(), box = own === "box" && places.length > 1;
    const shape = document.createElementNS(
      preview.namespaceURI, box ? "polygon" : "polyline",
    );
    const line = box ? corners(places) : places;
    shape.setAttribute("points", line.map((at) => pixels(at).join()).join(" "));
    if (own === "brush") {
      const { width, height } = frame();
      const part = Number(find("#radius input[type=range]")?.value ?? 6) / 100;
      shape.setAttribute("stroke-width", part * Math.max(width, height));
      shape.classList.add("brush");
    }
    preview.append(shape);
    if (own !== "polygon") return;
    places.forEach((at) => {
      const [x, y] = pixels(at);
      const dot = document.createElementNS(preview.namespaceURI, "circle");
      dot.setAttribute("cx", x); dot.setAttribute("cy", y); dot.setAttribute("r", 4);
      preview.append(dot);
    });
  };

  document.addEventListener("pointerdown", (event) => {
    const image = event.target.closest?.("#canvas img");
    if (!image) {
      if (!event.target.closest?.("#canvas")) drop();
      return;
    }
    const at = place(event);
    if (event.button || !inside(at)) return;
    down = true;
    if (tool() === "polygon") return;
    places = [at];
    if (tool() !== "point") {
      event.preventDefault();
      image.setPointerCapture(event.pointerId);
    }
    draw();
  });
  document.addEventListener("pointermove", (event) => {
    if (!down || !picture()) return;
    const at = place(event).map((value) => Math.min(Math.max(value, 0), 1));
    if (tool() === "box") places = [places[0], at];
    else if (tool() === "brush" && apart(places.at(-1), at) > 4) places.push(at);
    else return;
    draw();
  });
  document.addEventListener("pointercancel", drop);
  document.addEventListener("pointerup", (event) => {
    if (!down || !picture()) return;
    down = false;
    const own = tool(), at = place(event);
    if (own === "polygon") {
      if (!inside(at)) return;
      if (places.length > 2 && apart(places[0], at) < NEAR) return finish();
      if (!places.length || apart(places.at(-1), at) > 2) places.push(at);
      return draw();
    }
    if (own === "box") {
      if (places.length < 2 || apart(...places) < SMALL) return drop();
      places = corners(places);
    }
    finish();
  });
  document.addEventListener("dblclick", (event) => {
    if (tool() === "polygon" && event.target.closest?.("#canvas img")) finish();
  });
  document.addEventListener("dragstart", (event) => {
    if (event.target.closest?.("#canvas")) event.preventDefault();
  });
  document.addEventListener("wheel", (event) => {
    if (!event.ctrlKey || !event.target.closest?.("#canvas img")) return;
    event.preventDefault();
    if (event.timeStamp - turned < 300) return;
    turned = event.timeStamp;
    const at = place(event);
    drop();
    if (inside(at)) send({ zoom: event.deltaY < 0 ? 1 : -1, places: [at] });
  }, { passive: false });
  for (const name of ["scroll", "resize"]) window.addEventListener(name, draw, true);

  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches(
      "textarea, select, input:not([type=radio]):not([type=range]):not([type=checkbox])",
    );
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const choices = [...document.querySelectorAll("#label input")];
    const label = { b: 0, o: 1, e: choices.length - 1 }[key]
      ?? (key >= "1" && key <= "9" && key < choices.length - 1 + "" ? +key : undefined);
    if (key === "Escape") drop();
    else if (key === "Enter" && places.length) { event.preventDefault(); finish(); }
    else if (KEYS[key]) { drop(); find(KEYS[key]).click(); }
    else if (key in TOOLS) {
      drop();
      document.querySelectorAll("#tool input")[TOOLS[key]].click();
    } else if (label !== undefined) choices[label]?.click();
    else if (ARROWS[key] && picture() && !event.target.matches("input")) {
      event.preventDefault();
      drop();
      send({ move: ARROWS[key].map((value) => value / 4) });
    }
  });
}

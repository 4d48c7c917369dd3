"use strict";
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

for (const figure of document.querySelectorAll("[data-flicker]")) {
  const choices = [...figure.querySelectorAll("input[type=radio]")];
  const layers = [...figure.querySelectorAll(".layer")];
  const stack = figure.querySelector(".stack");
  const auto = figure.querySelector("[data-auto]");
  const zoom = figure.querySelector("[data-zoom]");
  const overBase = figure.querySelector(".base") !== null;
  let timer = null;

  const shown = () => choices.findIndex((choice) => choice.checked);
  const show = (index) => {
    choices[index].checked = true;
    layers.forEach((layer, i) => layer.toggleAttribute("data-shown", i === index));
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    auto?.setAttribute("aria-pressed", "false");
    show(shown());
  };
  // Lines over a picture are switched on and off. Otherwise the last two pictures alternate.
  const flick = () => {
    if (overBase) layers[shown()].toggleAttribute("data-shown");
    else show(shown() === layers.length - 1 ? layers.length - 2 : layers.length - 1);
  };

  choices.forEach((choice, index) => choice.addEventListener("change", () => { show(index); }));
  stack.addEventListener("click", () => {
    stop();
    if (overBase && layers.length === 1) layers[0].toggleAttribute("data-shown");
    else show((shown() + 1) % layers.length);
  });
  auto?.addEventListener("click", () => {
    if (timer) { stop(); return; }
    auto.setAttribute("aria-pressed", "true");
    flick();
    timer = setInterval(flick, still ? 2000 : 700);
  });
  zoom.addEventListener("click", () => {
    const on = stack.classList.toggle("zoomed");
    zoom.setAttribute("aria-pressed", String(on));
  });
  stack.addEventListener("pointermove", (event) => {
    const box = stack.getBoundingClientRect();
    stack.style.setProperty("--x", `${(100 * (event.clientX - box.left)) / box.width}%`);
    stack.style.setProperty("--y", `${(100 * (event.clientY - box.top)) / box.height}%`);
  });
}

for (const figure of document.querySelectorAll("[data-explorer]")) {
  const shape = JSON.parse(figure.dataset.shape);
  const affine = JSON.parse(figure.dataset.affine);
  const columns = Number(figure.dataset.columns);
  const sheets = [...figure.querySelectorAll("[data-sheet]")];
  const output = figure.querySelector("output");
  const volumes = new Map();
  const at = shape.map((side) => Math.floor(side / 2));
  let volume = null;

  // A sheet holds the axial slices in rows; the first row of each slice is at the back of the head.
  const read = async (sheet) => {
    await sheet.decode();
    const canvas = document.createElement("canvas");
    canvas.width = sheet.naturalWidth;
    canvas.height = sheet.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(sheet, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const [nx, ny, nz] = shape;
    const values = new Uint8Array(nx * ny * nz);
    for (let z = 0, to = 0; z < nz; z++) {
      const left = (z % columns) * nx;
      const top = Math.floor(z / columns) * ny;
      for (let y = 0; y < ny; y++) {
        for (let x = 0; x < nx; x++) values[to++] = pixels[4 * ((top + y) * canvas.width + left + x)];
      }
    }
    return values;
  };

  const strides = [1, shape[0], shape[0] * shape[1]];
  const planes = [...figure.querySelectorAll(".plane")].map((element) => {
    const across = Number(element.dataset.across);
    const up = Number(element.dataset.up);
    const through = 3 - across - up;
    const context = element.querySelector("canvas").getContext("2d");
    const picture = context.createImageData(shape[across], shape[up]);
    const draw = () => {
      let to = 0;
      for (let row = shape[up] - 1; row >= 0; row--) {
        let from = at[through] * strides[through] + row * strides[up];
        for (let column = 0; column < shape[across]; column++, from += strides[across]) {
          const level = volume[from];
          picture.data[to++] = level;
          picture.data[to++] = level;
          picture.data[to++] = level;
          picture.data[to++] = 255;
        }
      }
      context.putImageData(picture, 0, 0);
      element.querySelector(".vertical").style.left = `${(100 * (at[across] + 0.5)) / shape[across]}%`;
      element.querySelector(".horizontal").style.bottom = `${(100 * (at[up] + 0.5)) / shape[up]}%`;
    };
    const point = (event) => {
      const box = element.getBoundingClientRect();
      move(across, Math.floor(((event.clientX - box.left) / box.width) * shape[across]));
      move(up, Math.floor((1 - (event.clientY - box.top) / box.height) * shape[up]));
      drawAll();
    };
    element.addEventListener("pointerdown", (event) => {
      element.setPointerCapture(event.pointerId);
      point(event);
    });
    element.addEventListener("pointermove", (event) => { if (event.buttons) point(event); });
    element.addEventListener("keydown", (event) => {
      const step = {
        ArrowLeft: [across, -1], ArrowRight: [across, 1], ArrowDown: [up, -1], ArrowUp: [up, 1],
        PageDown: [through, -1], PageUp: [through, 1],
      }[event.key];
      if (!step) return;
      event.preventDefault();
      move(step[0], at[step[0]] + step[1]);
      drawAll();
    });
    return { draw };
  });

  const move = (axis, to) => { at[axis] = Math.min(Math.max(to, 0), shape[axis] - 1); };
  const drawAll = () => {
    if (!volume) return;
    planes.forEach((plane) => plane.draw());
    const world = affine.slice(0, 3).map((row) => row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3]);
    output.textContent = `${world.map((value) => value.toFixed(0).replace("-", "\u2212")).join(", ")} mm`;
  };
  const choose = async (index) => {
    if (!volumes.has(index)) volumes.set(index, await read(sheets[index]));
    volume = volumes.get(index);
    drawAll();
  };
  figure.querySelectorAll("input").forEach((choice, index) => {
    choice.addEventListener("change", () => choose(index));
  });
  choose(0);
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => {
    const source = document.getElementById(button.dataset.copy);
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    // The clipboard API is blocked on pages opened from disk, but this older command is not.
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
  });
}

// How pictures are shown: stretch, brightness and contrast of composites, and one of them enlarged, with scale and compass.

const SVG = "http://www.w3.org/2000/svg";
// Lengths of a scale bar in arcsec; the longest that is at most a third of the cutout is drawn.
const BARS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600];

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// The stretch is a filter of the page; residual maps keep their colours, which have a scale.
function applyLook() {
  const [stretch, brightness, contrast] = ["stretch", "brightness", "contrast"].map((id) => byId(id).value);
  const parts = [];
  if (stretch) parts.push(`url(#stretch-${stretch})`);
  if (brightness !== "100") parts.push(`brightness(${brightness}%)`);
  if (contrast !== "100") parts.push(`contrast(${contrast}%)`);
  document.documentElement.style.setProperty("--look", parts.join(" ") || "none");
}

function scaleAndCompass() {
  const length = BARS.filter((bar) => bar <= DATA.cutoutArcsec / 3).at(-1) ?? DATA.cutoutArcsec / 4;
  const across = (100 * length) / DATA.cutoutArcsec;
  const said = `Scale bar of ${length} arcsec; north is up, east is left`;
  const path = `M4 93v3h${across}v-3 M92 95V82m-1.6 2.6l1.6 -2.6l1.6 2.6 M92 95H79m2.6 -1.6l-2.6 1.6l2.6 1.6`;
  return svg("svg", { class: "sky", viewBox: "0 0 100 100", role: "img", "aria-label": said },
    svg("path", { class: "under", d: path }),
    svg("path", { d: path }),
    svg("text", { x: 4 + across / 2, y: 91, "text-anchor": "middle" }, `${length}″`),
    svg("text", { x: 92, y: 80, "text-anchor": "middle" }, "N"),
    svg("text", { x: 75, y: 96.5, "text-anchor": "middle" }, "E"));
}

// One picture of a candidate, large; which one stays when going on to another candidate.
function enlarged(index) {
  const options = DATA.tiles.map(([kind, name], tile) => el("option", { value: tile }, `${kind} ${name}`));
  const select = el("select", { id: "enlarged" }, ...options);
  select.value = String(state.enlarged);
  const place = el("div");
  const show = () => {
    state.enlarged = Number(select.value);
    const frame = tileFrame(index, state.enlarged);
    frame.append(scaleAndCompass());
    place.replaceChildren(frame);
  };
  select.addEventListener("input", show);
  show();
  return el("div", { class: "enlarged" }, el("label", {}, "Enlarged ", select), place);
}

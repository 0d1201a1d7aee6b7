// The map: candidates as dots on the density of the sample, and an area of it whose candidates the gallery shows.
// Places on it are arcsinh of the values on its axes, or the values themselves.

const [SCALED, UNSCALED] = DATA.map.isLinear ? [Number, Number] : [Math.asinh, Math.sinh];
const ENDS = DATA.map.ends;
const SPAN = ENDS.map(([low, high]) => high - low);
const STEP = 0.05; // of an axis, by which a key moves or widens the area
const CLICK = 0.015; // a shorter drag is a click

const axisPlaces = (axis) => DATA.map.place[axis].map((value) => (value === null ? NaN : SCALED(value)));
const PLACES = [axisPlaces(0), axisPlaces(1)];

function inArea(index, area) {
  return [0, 1].every((axis) => PLACES[axis][index] >= area[axis][0] && PLACES[axis][index] <= area[axis][1]);
}

// An area is [[left, right], [bottom, top]]; null is none.
function drawArea(area) {
  state.area = area && area.map((range, axis) => {
    const [low, high] = [Math.min(...range), Math.max(...range)];
    return [Math.max(low, ENDS[axis][0]), Math.min(high, ENDS[axis][1])];
  });
  const box = byId("area");
  box.hidden = !area;
  byId("area-off").disabled = !area;
  if (area) {
    const share = state.area.map((range, axis) => range.map((value) => (value - ENDS[axis][0]) / SPAN[axis]));
    box.style.left = `${100 * share[0][0]}%`;
    box.style.width = `${100 * (share[0][1] - share[0][0])}%`;
    box.style.top = `${100 * (1 - share[1][1])}%`;
    box.style.height = `${100 * (share[1][1] - share[1][0])}%`;
  }
}

// The gallery shows the candidates of an area, and the fields its ends.
function setArea(area) {
  drawArea(area);
  for (const [id, axis, end] of AREA_FIELDS) {
    byId(id).value = area ? Number(UNSCALED(state.area[axis][end]).toPrecision(4)) : "";
  }
  refresh();
}

const AREA_FIELDS = [["area-left", 0, 0], ["area-right", 0, 1], ["area-bottom", 1, 0], ["area-top", 1, 1]];

// An empty field is the end of the map.
function areaOfFields() {
  const given = AREA_FIELDS.filter(([id]) => byId(id).value !== "");
  const area = ENDS.map((ends) => [...ends]);
  for (const [id, axis, end] of given) area[axis][end] = SCALED(Number(byId(id).value));
  drawArea(given.length ? area : null);
  refresh();
}

function drawPlane() {
  const canvas = byId("dots");
  const style = getComputedStyle(document.documentElement);
  const colour = Object.fromEntries(["accent", ...MARKS].map((name) => [name, style.getPropertyValue(`--${name}`)]));
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const dot = (index, size) => {
    const [x, y] = [0, 1].map((axis) => (PLACES[axis][index] - ENDS[axis][0]) / SPAN[axis]);
    pen.fillRect(x * canvas.width - size / 2, (1 - y) * canvas.height - size / 2, size, size);
  };
  pen.globalAlpha = 0.35;
  pen.fillStyle = colour.accent;
  for (let index = 0; index < N; index += 1) dot(index, 4);
  pen.globalAlpha = 0.9;
  for (const index of state.order) {
    const mark = marks.of(ALL.id[index]);
    pen.fillStyle = colour[mark || "accent"];
    dot(index, mark ? 9 : 6);
  }
  if (state.current >= 0) {
    pen.fillStyle = style.getPropertyValue("--focus");
    dot(state.order[state.current], 16);
  }
}

let isDrawingAsked = false;

function askToDraw() {
  if (isDrawingAsked) return;
  isDrawingAsked = true;
  requestAnimationFrame(() => {
    isDrawingAsked = false;
    drawPlane();
  });
}

// Keys of the map: arrows move the area, with Shift they widen and narrow it. The first key makes one.
function planeKey(event) {
  const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1] }[event.key];
  const ends = event.key === "Escape" || event.key === "Delete";
  if (event.ctrlKey || event.metaKey || event.altKey || !(by || ends || event.key === "Enter")) return;
  event.preventDefault();
  event.stopPropagation();
  if (ends) {
    setArea(null);
  } else if (!state.area) {
    // Around the candidate where the keyboard is, else in the middle.
    const at = state.current < 0 ? null : state.order[state.current];
    setArea(ENDS.map(([low], axis) => {
      const middle = at === null ? low + SPAN[axis] / 2 : PLACES[axis][at];
      return [middle - SPAN[axis] / 10, middle + SPAN[axis] / 10];
    }));
  } else if (by) {
    const area = state.area.map((range) => [...range]);
    const [axis, sign] = by;
    const step = sign * STEP * SPAN[axis];
    if (event.shiftKey) area[axis][1] = Math.max(area[axis][1] + step, area[axis][0] + (STEP * SPAN[axis]) / 2);
    else area[axis] = area[axis].map((value) => value + step);
    // Moved over an end it would shrink, and not come back.
    const over = Math.max(area[axis][1] - ENDS[axis][1], 0) + Math.min(area[axis][0] - ENDS[axis][0], 0);
    setArea(event.shiftKey ? area : area.map((range, k) => (k === axis ? range.map((value) => value - over) : range)));
  }
}

function placeOf(event) {
  const box = byId("dots").getBoundingClientRect();
  const share = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
  return share.map((value, axis) => ENDS[axis][0] + Math.min(Math.max(value, 0), 1) * SPAN[axis]);
}

const distanceTo = (index, place) => Math.hypot(...[0, 1].map((axis) => (PLACES[axis][index] - place[axis]) / SPAN[axis]));

let dragFrom = null;

function planeDrag(event) {
  if (event.pointerType === "touch") return; // a finger scrolls the page; the fields do the same
  if (event.type === "pointerdown" && event.button === 0) {
    dragFrom = placeOf(event);
    byId("plane").setPointerCapture(event.pointerId);
  } else if (dragFrom) {
    const to = placeOf(event);
    const moved = Math.hypot(...[0, 1].map((axis) => (to[axis] - dragFrom[axis]) / SPAN[axis]));
    const area = dragFrom.map((value, axis) => [value, to[axis]]);
    if (event.type !== "pointerup") {
      if (moved >= CLICK) drawArea(area);
      return;
    }
    dragFrom = null;
    if (moved >= CLICK) {
      setArea(area);
      return;
    }
    const best = state.order.reduce((a, b) => (a < 0 || distanceTo(b, to) < distanceTo(a, to) ? b : a), -1);
    if (best >= 0 && distanceTo(best, to) < CLICK) showDetails(best);
  }
}

// Ids of what the gallery shows, in its order, for TOPCAT and for `--ids` of the program.
function idsCsv() {
  const names = ALL.kept.object_name;
  const columns = ["object_id", ...(names ? ["object_name"] : []), "ra", "dec", "map_1", "map_2"];
  const rows = state.order.map((index) => [
    ALL.id[index], ...(names ? [csvCell(names[index])] : []), ALL.ra[index], ALL.dec[index],
    DATA.map.place[0][index], DATA.map.place[1][index],
  ].map((value) => value ?? "").join(","));
  return [columns.join(","), ...rows, ""].join("\r\n");
}

// More like this: the candidates that look most like one, as the program found them.

const near = { place: null, distance: null };

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
}

// Candidates most like one, nearest first: [index, distance]. What the page holds is read when it is first asked for.
function nearestTo(index) {
  if (!near.place) {
    const place = bytesOf(DATA.near.place);
    near.place = DATA.near.bytes === 2 ? new Uint16Array(place) : new Uint32Array(place);
    near.distance = new Uint16Array(bytesOf(DATA.near.distance));
  }
  const found = [];
  for (let k = index * DATA.near.number; k < (index + 1) * DATA.near.number; k += 1) {
    found.push([near.place[k], near.distance[k] / 1000]);
  }
  return found;
}

// The gallery shows a candidate and those most like it, until told otherwise.
function showAlike(index) {
  closeDetails();
  state.like = index;
  refresh();
  byId("like-off").textContent = index < 0 ? "" : `Most like ${ALL.id[index]}: show all again`;
  byId("like-off").hidden = index < 0;
  if (index < 0) return;
  byId("gallery").scrollIntoView();
  setCurrent(index, true);
}

function alikeList(index) {
  const found = nearestTo(index);
  if (!found.length) return null;
  const items = found.map(([other, distance]) => {
    const name = `Candidate ${ALL.id[other]}, distance ${distance.toFixed(2)}`;
    const frame = tileFrame(other, tileOf("source", byId("composite").value));
    const button = el("button", { type: "button", class: "alike", "aria-label": name, title: ALL.id[other] },
      frame, distance.toFixed(2));
    button.dataset.mark = marks.of(ALL.id[other]);
    button.addEventListener("click", () => showDetails(other));
    return el("li", {}, button);
  });
  const all = el("button", { type: "button", id: "like-on", title: "key m" }, "Show these in the gallery");
  all.addEventListener("click", () => showAlike(index));
  return el("section", { "aria-labelledby": "alike-title" },
    el("h3", { id: "alike-title" }, "More like this"),
    el("p", { class: "muted" }, "Candidates, nearest first, with their distance"),
    el("ol", { class: "alike-list", "aria-label": "More like this" }, ...items), all);
}

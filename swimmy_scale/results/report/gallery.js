// The gallery: cards of one page, the dialog of one candidate. Text of the run only ever becomes text nodes.

const PAGE_SIZE = 36;
const state = { order: [], page: 0, current: -1, shown: -1, enlarged: 0, area: null, like: -1 };
const byId = (id) => document.getElementById(id);

function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const fixed = (value, digits) => (value === null ? "–" : value.toFixed(digits));
const short = (value) => (value === null ? "–" : String(Number(value.toPrecision(3))));
const tileOf = (kind, name) => DATA.tiles.findIndex((tile) => tile[0] === kind && tile[1] === name);
const COMPOSITES = DATA.tiles.filter((tile) => tile[0] === "source").map((tile) => tile[1]);

// One tile of a sheet; its frame hides the others.
function tileFrame(index, tile) {
  const sheet = Math.floor(index / DATA.rowsPerSheet);
  const rows = Math.min(DATA.rowsPerSheet, N - sheet * DATA.rowsPerSheet);
  const [kind, name] = DATA.tiles[tile];
  const image = el("img", {
    src: `images/${String(sheet).padStart(5, "0")}.jpg`,
    alt: `${kind === "residual" ? "residual map" : kind} in ${name} of ${ALL.id[index]}`,
    loading: "lazy",
    decoding: "async",
  });
  image.style.width = `${DATA.tiles.length * 100}%`;
  image.style.height = `${rows * 100}%`;
  image.style.left = `${-tile * 100}%`;
  image.style.top = `${-(index % DATA.rowsPerSheet) * 100}%`;
  const frame = el("span", { class: kind === "residual" ? "tile" : "tile light" }, image);
  if (kind === "residual") {
    const ring = el("span", { class: "ring" });
    ring.style.width = ring.style.height = `${DATA.apertureShare * 100}%`;
    frame.append(ring);
  }
  return frame;
}

function picture(index, tile, caption) {
  return el("figure", {}, tileFrame(index, tile), el("figcaption", {}, caption));
}

function markButtons(index) {
  const group = el("div", { class: "buttons", role: "group", "aria-label": `Mark ${ALL.id[index]}` });
  MARKS.forEach((mark, k) => {
    const name = mark[0].toUpperCase() + mark.slice(1);
    const button = el("button", { type: "button", "data-sets": mark, title: `key ${k + 1}` }, name);
    button.setAttribute("aria-pressed", marks.of(ALL.id[index]) === mark);
    button.addEventListener("click", () => setMark(index, mark));
    group.append(button);
  });
  return group;
}

function hintBadges(index) {
  const shown = DATA.hints.filter((_, bit) => ALL.hints[index] & (1 << bit));
  const badges = shown.map((name) => el("span", {}, name.replaceAll("_", " ")));
  return badges.length ? el("div", { class: "hints", role: "group", "aria-label": "Artefact hints" }, ...badges) : null;
}

function tagBadges(index) {
  const badges = marks.item(ALL.id[index]).tags.map((tag) => el("span", {}, tag));
  return badges.length ? el("div", { class: "tags", role: "group", "aria-label": "Tags" }, ...badges) : null;
}

function scoreFact(index, band) {
  const selects = ALL.flags[0][index] & (1 << band);
  const text = `${DATA.bands[band]} ${short(ALL.score[band][index])}`;
  const percentile = el("span", { class: "muted" }, ` ${fixed(ALL.percentile[band][index], 2)}%`);
  return el("span", {}, selects ? el("b", {}, text) : text, percentile);
}

// What marks taught of a candidate; nothing where nothing was ranked.
function learntFact(index) {
  const probability = ALL.probability ? ALL.probability[index] : null;
  if (probability === null) return null;
  const words = `interesting ${fixed(probability, 2)} ± ${fixed(ALL.uncertainty[index], 2)}`;
  return el("span", { title: "probability that marks taught" }, words);
}

function card(index) {
  const map = byId("map").value;
  const band = map === "strongest" ? strongestBand(index) : Number(map);
  const colours = byId("composite").value;
  const open = el("button", { type: "button", class: "open", "aria-haspopup": "dialog" }, ALL.id[index]);
  open.addEventListener("click", () => showDetails(index));
  const selecting = DATA.selecting.map((name) => DATA.bands.indexOf(name));
  const known = ALL.knownClass[index];
  const level = levelOf(index);
  const reached = `${DATA.levels[level]} ${bandsOf(index, level)}`;
  const attributes = { class: "card", tabindex: "-1", "data-index": index, "data-mark": marks.of(ALL.id[index]) };
  const article = el(
    "article",
    { ...attributes, "aria-label": `Candidate ${ALL.id[index]}` },
    el("header", {}, open, el("span", { class: "badge", title: "level and bands that select it" }, reached)),
    el("div", { class: "tiles" },
      picture(index, tileOf("source", colours), colours),
      picture(index, tileOf("reconstruction", colours), "reconstruction"),
      picture(index, tileOf("residual", DATA.bands[band]), `residual ${DATA.bands[band]}`)),
    el("div", { class: "facts" }, ...selecting.map((place) => scoreFact(index, place))),
    el("div", { class: "facts" },
      el("span", {}, `${DATA.magnitudeBand} ${fixed(ALL.magnitude[index], 2)} mag`),
      el("span", {}, `${fixed(ALL.ra[index], 5)}, ${fixed(ALL.dec[index], 5)}`),
      learntFact(index),
      known ? el("span", {}, el("b", {}, known)) : null),
    hintBadges(index),
    tagBadges(index),
    markButtons(index),
  );
  article.addEventListener("focusin", () => setCurrent(index, false));
  return el("li", {}, article);
}

function filter() {
  const number = (id) => (byId(id).value === "" ? null : Number(byId(id).value));
  return {
    level: Number(byId("level").value),
    band: byId("band").value,
    knownClass: byId("class").value,
    hint: byId("hint").value,
    mark: byId("mark").value,
    tag: byId("tag").value,
    area: state.area,
    text: byId("text").value.trim().toLowerCase(),
    magMin: number("mag-min"),
    magMax: number("mag-max"),
  };
}

// Sort and filter again, and go back to the first page.
function refresh() {
  listTags();
  const among = state.like < 0 ? null : [state.like, ...nearestTo(state.like).map(([index]) => index)];
  state.order = chosen(byId("sort").value, filter(), (id) => marks.item(id), among);
  state.page = 0;
  state.current = -1;
  renderPage();
}

function renderPage() {
  const pages = Math.max(Math.ceil(state.order.length / PAGE_SIZE), 1);
  state.page = Math.min(Math.max(state.page, 0), pages - 1);
  const first = state.page * PAGE_SIZE;
  const shown = state.order.slice(first, first + PAGE_SIZE);
  byId("cards").replaceChildren(...shown.map(card));
  byId("page-now").textContent = `Page ${state.page + 1} of ${pages}`;
  byId("page-back").disabled = state.page === 0;
  byId("page-next").disabled = state.page === pages - 1;
  const range = shown.length ? `, showing ${first + 1} to ${first + shown.length}` : "";
  const [found, all] = [state.order.length, N].map((number) => number.toLocaleString("en"));
  const what = state.like < 0 ? "" : ` like ${ALL.id[state.like]}`;
  byId("status").textContent = `${found} of ${all} candidates${what}${state.area ? " in the area" : ""}${range}`;
  byId("export-ids").disabled = !state.order.length;
  showCounts();
}

// The tags that are used now, to filter by and to choose from.
function listTags() {
  const select = byId("tag");
  const chosenTag = select.value;
  const tags = marks.allTags();
  select.replaceChildren(el("option", { value: "" }, "any"), ...tags.map((tag) => el("option", { value: `=${tag}` }, tag)));
  select.value = tags.includes(chosenTag.slice(1)) ? chosenTag : "";
  byId("known-tags").replaceChildren(...tags.map((tag) => el("option", { value: tag })));
}

function showCounts() {
  const counts = MARKS.map((mark) => `${marks.count(mark)} ${mark}`).join(", ");
  const lost = marks.kept ? "" : " (this browser does not keep them: export before you leave)";
  byId("mark-counts").textContent = `${counts}, ${marks.countNoted()} only noted${lost}`;
  const [marked, all] = [marks.countMarked(), N].map((number) => number.toLocaleString("en"));
  byId("progress-text").textContent = `${marked} of ${all} marked`;
  byId("progress").max = Math.max(N, 1);
  byId("progress").value = marks.countMarked();
  byId("export").disabled = !marks.byId.size;
  byId("undo").disabled = !marks.past.length;
  askToDraw();
}

function say(text) {
  byId("message").hidden = !text;
  byId("message").textContent = text;
}

function setCurrent(index, focus) {
  for (const old of document.querySelectorAll(".card[aria-current]")) old.removeAttribute("aria-current");
  state.current = state.order.indexOf(index);
  askToDraw();
  const element = document.querySelector(`.card[data-index="${index}"]`);
  if (!element) return;
  element.setAttribute("aria-current", "true");
  if (focus) {
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "center", behavior: "instant" });
  }
}

// Turn to the page of a place in the order.
function goTo(place) {
  if (Math.floor(place / PAGE_SIZE) === state.page) return;
  state.page = Math.floor(place / PAGE_SIZE);
  renderPage();
}

// Move on by a number of candidates, across pages too; in the dialog if it is open.
function step(by) {
  if (!state.order.length) return;
  const first = state.page * PAGE_SIZE;
  const from = state.current >= 0 ? state.current : first - Math.max(by, 0);
  const to = Math.min(Math.max(from + by, 0), state.order.length - 1);
  goTo(to);
  const open = byId("details").open;
  setCurrent(state.order[to], !open);
  if (open) showDetails(state.order[to]);
}

// The same mark again removes it. With "go on", a mark leads to the next candidate.
function setMark(index, mark) {
  const id = ALL.id[index];
  marks.change(id, { mark: marks.of(id) === mark ? "" : mark });
  showMark(index);
  showCounts();
  if (!marks.of(id) || !byId("go-on").checked) return;
  setCurrent(index, false);
  step(1);
}

function showMark(index) {
  const mark = marks.of(ALL.id[index]);
  for (const element of document.querySelectorAll(`[data-index="${index}"]`)) {
    element.dataset.mark = mark;
    for (const button of element.querySelectorAll("[data-sets]")) {
      button.setAttribute("aria-pressed", button.dataset.sets === mark);
    }
  }
}

function undo() {
  const ids = marks.undo();
  if (!ids.length) return;
  const place = ALL.id.indexOf(ids[0]);
  renderPage();
  if (state.shown >= 0) showDetails(state.shown);
  else if (ids.length === 1 && state.order.includes(place)) {
    goTo(state.order.indexOf(place));
    setCurrent(place, true);
  }
  const said = marks.of(ids[0]) || "without a mark";
  byId("status").textContent = ids.length > 1 ? `undone: marks of ${ids.length} objects` : `undone: ${ids[0]} is ${said}`;
}

// A table that is wider than its place scrolls in it, and does not widen the page.
function scrollable(...children) {
  const attributes = { class: "scroll", tabindex: "0", role: "region", "aria-label": "Scrollable table" };
  return el("div", attributes, el("table", {}, ...children));
}

function detailTable(index) {
  const names = ["band", "score", "percentile", "residual", "selected at"];
  const heads = names.map((text, place) => el("th", { scope: "col", class: place ? "n" : null }, text));
  const rows = DATA.bands.map((band, place) => {
    const levels = DATA.levels.filter((_, level) => ALL.flags[level][index] & (1 << place));
    const selects = DATA.selecting.includes(band);
    const cells = [
      short(ALL.score[place][index]),
      fixed(ALL.percentile[place][index], 3),
      short(ALL.residual[place][index]),
      selects ? levels.at(-1) || "–" : "never",
    ];
    return el("tr", {}, el("th", { scope: "row" }, band), ...cells.map((text) => el("td", { class: "n" }, text)));
  });
  const caption = el("caption", {}, "Percentile: how much of the sample scores lower");
  return scrollable(caption, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows));
}

function noteField(index) {
  const id = ALL.id[index];
  const area = el("textarea", { id: "note", rows: "2" });
  area.value = marks.item(id).note;
  area.addEventListener("input", () => {
    marks.change(id, { note: area.value });
    showCounts();
  });
  return el("p", {}, el("label", { for: "note" }, "Note, exported with the mark or alone"), area);
}

function tagsField(index) {
  const id = ALL.id[index];
  const field = el("input", { id: "tags", type: "text", list: "known-tags", autocomplete: "off" });
  field.value = marks.item(id).tags.join("; ");
  field.addEventListener("input", () => {
    marks.change(id, { tags: tagsOf(field.value) });
    showCounts();
  });
  return el("p", {}, el("label", { for: "tags" }, "Tags of your own, separated by ;"), field);
}

// Closes the dialog, if it is open. Marks given in it show on the cards; the candidate that it showed gets the focus.
function closeDetails() {
  if (state.shown < 0) return;
  const index = state.shown;
  state.shown = -1;
  byId("details").close();
  const place = state.order.indexOf(index);
  if (place >= 0) state.page = Math.floor(place / PAGE_SIZE);
  renderPage();
  listTags();
  setCurrent(index, true);
}

function keptList(index) {
  const names = Object.keys(ALL.kept);
  const cells = (name) => [
    el("th", { scope: "row", class: "wrap" }, name),
    el("td", { class: "wrap" }, ALL.kept[name][index]),
  ];
  const rows = names.map((name) => el("tr", {}, ...cells(name)));
  const caption = el("caption", {}, "From the survey's catalogue");
  return names.length ? scrollable(caption, el("tbody", {}, ...rows)) : null;
}

function showDetails(index) {
  const dialog = byId("details");
  const close = el("button", { type: "button", class: "close" }, "Close");
  const rows = ["source", "reconstruction", "residual"].map((kind) => {
    const tiles = DATA.tiles.map((tile, place) => [tile, place]).filter(([tile]) => tile[0] === kind);
    const row = el("div", {}, ...tiles.map(([tile, place]) => picture(index, place, `${kind} ${tile[1]}`)));
    row.style.setProperty("--across", tiles.length);
    return row;
  });
  const outside = { target: "_blank", rel: "noopener noreferrer" };
  const links = linksOf(index).map(([name, url]) => el("a", { href: url, ...outside }, `${name} ↗`));
  const level = levelOf(index);
  const magnitude = `${DATA.magnitudeBand} ${fixed(ALL.magnitude[index], 2)} mag`;
  const facts = [`${DATA.levels[level]} in ${bandsOf(index, level)}`, magnitude];
  const known = ALL.knownClass[index];
  dialog.replaceChildren(
    el("div", { class: "dialog-top", "data-index": index },
      el("h2", { id: "details-title", tabindex: "-1" }, ALL.id[index]),
      el("button", { type: "button", class: "back", "aria-label": "Previous candidate" }, "←"),
      el("button", { type: "button", class: "next", "aria-label": "Next candidate" }, "→"),
      el("span", { class: "muted" }, `${state.order.indexOf(index) + 1} of ${state.order.length}`),
      markButtons(index), close),
    el("div", { class: "split" },
      el("div", { class: "all-tiles" }, enlarged(index), ...rows),
      el("div", {},
        el("p", {}, el("b", {}, facts.join(" · ")), known ? ` · class ${known}` : " · class unknown"),
        el("p", {}, `RA ${fixed(ALL.ra[index], 6)}°, Dec ${fixed(ALL.dec[index], 6)}° (ICRS)`),
        el("p", { class: "links" }, ...links),
        hintBadges(index),
        detailTable(index),
        keptList(index),
        tagsField(index),
        noteField(index),
        alikeList(index))),
  );
  close.addEventListener("click", closeDetails);
  dialog.querySelector(".back").addEventListener("click", () => step(-1));
  dialog.querySelector(".next").addEventListener("click", () => step(1));
  state.shown = index;
  setCurrent(index, false);
  if (!dialog.open) dialog.showModal();
  byId("details-title").focus(); // a screen reader then says which candidate it is
}

function save(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

async function importMarks(file) {
  try {
    const number = marks.addCsv(await file.text());
    say("");
    refresh();
    byId("status").textContent = `marks and notes of ${number} objects read`;
  } catch (error) {
    say(`${file.name}, ${error.message}. No mark was read: give a file that Export marks saved.`);
  }
}

// Events: the form, the keyboard, the theme. Runs once, at the end of the page.

const THEMES = ["auto", "light", "dark"];
const THEME_KEY = "swimmy-scale:theme";
const GO_ON_KEY = "swimmy-scale:go-on";

function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // A browser that stores nothing keeps it until the page is closed.
  }
}

function remembered(key) {
  try {
    return localStorage.getItem(key) || "";
  } catch {
    return "";
  }
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").lastElementChild.textContent = theme[0].toUpperCase() + theme.slice(1);
  byId("theme").setAttribute("aria-label", theme === "auto" ? "Colours: as in the system" : `Colours: ${theme}`);
  remember(THEME_KEY, theme);
  askToDraw();
}

function typing(target) {
  return target.matches("input:not([type=checkbox]), select, textarea");
}

function currentIndex() {
  return state.shown >= 0 ? state.shown : state.current >= 0 ? state.order[state.current] : -1;
}

const KEYS = {
  j: () => step(1),
  ArrowRight: () => step(1),
  k: () => step(-1),
  ArrowLeft: () => step(-1),
  1: () => currentIndex() >= 0 && setMark(currentIndex(), "interesting"),
  2: () => currentIndex() >= 0 && setMark(currentIndex(), "artefact"),
  3: () => currentIndex() >= 0 && setMark(currentIndex(), "known"),
  0: () => currentIndex() >= 0 && setMark(currentIndex(), ""),
  u: () => undo(),
  g: () => byId("go-on").click(),
  m: () => currentIndex() >= 0 && showAlike(currentIndex()),
  t: () => goToField("tags"),
  n: () => goToField("note"),
  "/": () => {
    closeDetails();
    byId("text").focus();
  },
  "?": () => byId("help").open || byId("help").showModal(),
};

// A field of the candidate where the keyboard is, in its dialog.
function goToField(id) {
  const index = currentIndex();
  if (index < 0) return;
  if (!byId("details").open) showDetails(index);
  byId(id).focus();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "z" && (event.ctrlKey || event.metaKey) && !typing(event.target)) {
    event.preventDefault();
    undo();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || !byId("keys-on").checked) return;
  if (event.key === "Enter" && event.target.matches(".card")) {
    event.preventDefault(); // or the same key would press the button that gets the focus: Close
    showDetails(Number(event.target.dataset.index));
  }
  if (!KEYS[event.key] || (byId("help").open && event.key !== "?")) return;
  event.preventDefault();
  KEYS[event.key]();
});

for (const name of COMPOSITES) byId("composite").append(el("option", { value: name }, name));
DATA.bands.forEach((band, place) => byId("map").append(el("option", { value: String(place) }, band)));

byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("reset", () => setTimeout(() => {
  applyLook();
  drawArea(null);
  showAlike(-1);
}));
byId("filters").addEventListener("input", (event) => {
  if (event.target.matches("#stretch, #brightness, #contrast")) applyLook();
  else if (event.target.matches("#composite, #map")) renderPage();
  else refresh();
});
byId("like-off").addEventListener("click", () => {
  showAlike(-1);
  byId("sort").focus(); // the button is gone
});
byId("undo").addEventListener("click", undo);
byId("go-on").addEventListener("change", () => remember(GO_ON_KEY, String(byId("go-on").checked)));
byId("export-ids").addEventListener("click", () => save("ids.csv", idsCsv()));
byId("area-off").addEventListener("click", () => {
  setArea(null);
  byId("plane").focus(); // the button is disabled now
});
byId("area-fields").addEventListener("input", areaOfFields);
byId("plane").addEventListener("keydown", planeKey);
for (const type of ["pointerdown", "pointermove", "pointerup"]) byId("plane").addEventListener(type, planeDrag);
function turnPage(by) {
  state.page += by;
  state.current = -1;
  renderPage();
  byId("gallery").scrollIntoView();
}

byId("page-back").addEventListener("click", () => turnPage(-1));
byId("page-next").addEventListener("click", () => turnPage(1));
byId("export").addEventListener("click", () => save("marks.csv", marks.toCsv()));
byId("import").addEventListener("change", (event) => {
  if (event.target.files.length) importMarks(event.target.files[0]);
  event.target.value = "";
});
byId("theme").addEventListener("click", () => {
  const now = document.documentElement.dataset.theme || "auto";
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
byId("show-help").addEventListener("click", () => byId("help").showModal());
byId("help").querySelector(".close").addEventListener("click", () => byId("help").close());
// Escape, at once: the browser says only later that a dialog is closed, and the next key may come before.
byId("details").addEventListener("cancel", closeDetails);
byId("details").addEventListener("close", () => byId("details").open || closeDetails());

// On paper nothing can be unfolded.
window.addEventListener("beforeprint", () => {
  for (const element of document.querySelectorAll("details")) element.open = true;
});

// Another tab with this report has changed the marks; without this, the next mark given here would undo its own.
window.addEventListener("storage", (event) => {
  if (event.key !== marks.key) return;
  marks.load();
  marks.past = []; // undoing here would undo what the other tab did
  renderPage();
});

setTheme(remembered(THEME_KEY) || "auto");
byId("go-on").checked = remembered(GO_ON_KEY) === "true";
marks.load();
applyLook();
refresh();
document.documentElement.dataset.ready = "true";
performance.mark("gallery-usable");

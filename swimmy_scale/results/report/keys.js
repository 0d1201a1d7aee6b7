// Events: the form, the keyboard, the theme. Runs once, at the end of the page.

const THEMES = ["auto", "light", "dark"];
const THEME_KEY = "swimmy-scale:theme";

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").lastElementChild.textContent = theme[0].toUpperCase() + theme.slice(1);
  byId("theme").setAttribute("aria-label", theme === "auto" ? "Colours: as in the system" : `Colours: ${theme}`);
  try {
    localStorage.setItem(THEME_KEY, theme);
  } catch {
    // A browser that stores nothing keeps the theme until the page is closed.
  }
}

function storedTheme() {
  try {
    return localStorage.getItem(THEME_KEY) || "auto";
  } catch {
    return "auto";
  }
}

function typing(target) {
  return target.matches("input, select, textarea");
}

function currentIndex() {
  return byId("details").open ? state.shown : state.current >= 0 ? state.order[state.current] : -1;
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
  "/": () => {
    byId("details").close();
    byId("text").focus();
  },
  "?": () => byId("help").open || byId("help").showModal(),
};

document.addEventListener("keydown", (event) => {
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
byId("filters").addEventListener("reset", () => setTimeout(refresh));
byId("filters").addEventListener("input", (event) => {
  if (event.target.matches("#composite, #map")) renderPage();
  else refresh();
});
function turnPage(by) {
  state.page += by;
  state.current = -1;
  renderPage();
  byId("gallery").scrollIntoView();
}

byId("page-back").addEventListener("click", () => turnPage(-1));
byId("page-next").addEventListener("click", () => turnPage(1));
byId("export").addEventListener("click", exportMarks);
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
// When the dialog closes, the candidate that it showed gets the focus.
byId("details").addEventListener("close", () => setCurrent(state.shown, true));

// On paper nothing can be unfolded.
window.addEventListener("beforeprint", () => {
  for (const element of document.querySelectorAll("details")) element.open = true;
});

// Another tab with this report has changed the marks; without this, the next mark given here would undo its own.
window.addEventListener("storage", (event) => {
  if (event.key !== marks.key) return;
  marks.load();
  renderPage();
});

setTheme(storedTheme());
marks.load();
refresh();
document.documentElement.dataset.ready = "true";
performance.mark("gallery-usable");

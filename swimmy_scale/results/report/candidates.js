// Which candidates are shown, and in which order. Nothing here touches the document's elements.

const DATA = JSON.parse(document.getElementById("data").textContent);
const ALL = DATA.candidates;
const N = ALL.id.length;

function levelOf(index) {
  let level = 0;
  for (let k = 0; k < DATA.levels.length; k += 1) if (ALL.flags[k][index]) level = k;
  return level;
}

// Bands that select a candidate at a level, as tables 3 and 6 write them.
function bandsOf(index, level) {
  return DATA.bands.filter((_, band) => ALL.flags[level][index] & (1 << band)).join("&");
}

// The selecting band with the highest percentile, whose residual a card shows by default.
function strongestBand(index) {
  let best = -1;
  DATA.bands.forEach((_, band) => {
    if (!(ALL.flags[0][index] & (1 << band))) return;
    if (best < 0 || ALL.percentile[band][index] > ALL.percentile[best][index]) best = band;
  });
  return Math.max(best, 0);
}

// `said` is what a person said of the candidate (see marks.js).
function matches(index, filter, said) {
  const at = ALL.flags[filter.level][index];
  if (filter.band === "" ? !at : !(at & (1 << Number(filter.band)))) return false;
  const known = ALL.knownClass[index];
  if (filter.knownClass === "-" && known !== "") return false;
  if (filter.knownClass.startsWith("=") && `=${known}` !== filter.knownClass) return false;
  const hints = ALL.hints[index];
  if (filter.hint === "none" ? hints : filter.hint !== "" && !(hints & (1 << Number(filter.hint)))) return false;
  const magnitude = ALL.magnitude[index];
  if (filter.magMin !== null && !(magnitude !== null && magnitude >= filter.magMin)) return false;
  if (filter.magMax !== null && !(magnitude !== null && magnitude <= filter.magMax)) return false;
  if (filter.area && !inArea(index, filter.area)) return false;
  if (filter.tag.startsWith("=") && !said.tags.includes(filter.tag.slice(1))) return false;
  const mark = said.mark || (said.note || said.tags.length ? "noted" : "");
  if (filter.mark === "none" ? mark !== "" : filter.mark !== "" && mark !== filter.mark) return false;
  return filter.text === "" || ALL.id[index].includes(filter.text) || known.toLowerCase().includes(filter.text);
}

// Compares 64-bit integers that are text: by sign, then length, then digits.
function compareIds(a, b) {
  const negative = a.startsWith("-");
  if (negative !== b.startsWith("-")) return negative ? -1 : 1;
  const order = a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
  return negative ? -order : order;
}

function sorter(sort) {
  if (sort === "id") return (a, b) => compareIds(ALL.id[a], ALL.id[b]);
  const byScore = sort.startsWith("score-");
  const others = { magnitude: ALL.magnitude, look: ALL.lookOrder };
  const column = byScore ? ALL.score[Number(sort.slice(6))] : others[sort] || ALL.rank;
  const sign = byScore ? -1 : 1;
  return (a, b) => {
    // Unknown values come last; of equal ones the stronger candidate comes first.
    const known = (column[a] === null) - (column[b] === null);
    return known || sign * (column[a] - column[b]) || ALL.rank[a] - ALL.rank[b];
  };
}

// Of all candidates, or of a list whose order stays.
function chosen(sort, filter, saidOf, among = null) {
  const passes = (index) => matches(index, filter, saidOf(ALL.id[index]));
  if (among) return among.filter(passes);
  const found = [];
  for (let index = 0; index < N; index += 1) if (passes(index)) found.push(index);
  return found.sort(sorter(sort));
}

// A position in degrees as other sites take it. hscMap wants radians, in JSON behind the #.
function linksOf(index) {
  const ra = ALL.ra[index];
  const dec = ALL.dec[index];
  if (ra === null || dec === null) return [];
  const radians = Math.PI / 180;
  const width = (2 * DATA.cutoutArcsec) / 3600;
  const view = { view: { a: ra * radians, d: dec * radians, fovy: width * radians, roll: 0 } };
  const signed = `${dec < 0 ? "" : "+"}${dec}`;
  const query = (values) => new URLSearchParams(values).toString();
  const simbad = { Coord: `${ra} ${signed}`, CooFrame: "ICRS", Radius: 5, "Radius.unit": "arcsec" };
  const frame = { search_type: "Near Position Search", in_csys: "Equatorial", in_equinox: "J2000" };
  const ned = { ...frame, coordinates: `${ra}d ${signed}d`, radius: 0.1 };
  const legacy = { ra, dec, layer: "hsc-dr3", zoom: 16, mark: `${ra},${dec}` };
  return [
    ["hscMap", `https://hsc-release.mtk.nao.ac.jp/hscMap-pdr3/app/#/?_=${encodeURIComponent(JSON.stringify(view))}`],
    ["Legacy Survey", `https://www.legacysurvey.org/viewer?${query(legacy)}`],
    ["SIMBAD", `https://simbad.cds.unistra.fr/simbad/sim-coo?${query(simbad)}`],
    ["NED", `https://ned.ipac.caltech.edu/conesearch?${query(ned)}`],
  ];
}

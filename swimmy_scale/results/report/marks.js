// Marks, notes and tags of candidates: kept in this browser for this run, saved and read as CSV.

const MARKS = ["interesting", "artefact", "known"];
const CSV_COLUMNS = ["format_version", "object_id", "mark", "note", "tags"];
const CSV_VERSION = "2";
const READ_VERSIONS = ["1", "2"]; // those of version 1 have no tags
const NOTHING = { mark: "", note: "", tags: [] };
const IDS = new Set(ALL.id);
const FORMULA = /^'*[=+\-@\t\r]/;

const marks = {
  key: `swimmy-scale:marks:${DATA.run}`,
  byId: new Map(),
  kept: true,
  past: [], // what was before each change, to undo them

  load() {
    try {
      const stored = JSON.parse(localStorage.getItem(this.key) || "[]");
      const found = stored.map(([id, item]) => [id, { ...NOTHING, ...item }]);
      this.byId = new Map(found.filter(([, item]) => MARKS.includes(item.mark) || item.note || item.tags.length));
    } catch {
      this.kept = false;
    }
  },

  save() {
    try {
      localStorage.setItem(this.key, JSON.stringify([...this.byId]));
    } catch {
      this.kept = false;
    }
  },

  item(id) {
    return this.byId.get(id) || NOTHING;
  },

  of(id) {
    return this.item(id).mark;
  },

  // Gives an object a mark, a note or tags; what it has of the others stays. One undo takes back what was typed.
  change(id, part) {
    const kind = Object.keys(part).join();
    const last = this.past.at(-1);
    if (kind === "mark" || !last || last.kind !== kind || !last.before.has(id)) this.remember(kind, [id]);
    this.put(id, { ...this.item(id), ...part });
    this.save();
  },

  put(id, item) {
    if (item.mark || item.note || item.tags.length) this.byId.set(id, item);
    else this.byId.delete(id);
  },

  remember(kind, ids) {
    this.past.push({ kind, before: new Map(ids.map((id) => [id, this.item(id)])) });
  },

  // Takes the last change back. Returns the ids that it was of; none if there is nothing to undo.
  undo() {
    const last = this.past.pop();
    if (!last) return [];
    for (const [id, item] of last.before) this.put(id, item);
    this.save();
    return [...last.before.keys()];
  },

  count(mark) {
    let number = 0;
    for (const item of this.byId.values()) if (item.mark === mark) number += 1;
    return number;
  },

  // How many of the candidates of this page have a mark.
  countMarked() {
    let number = 0;
    for (const [id, item] of this.byId) if (item.mark && IDS.has(id)) number += 1;
    return number;
  },

  // Every tag that is used, in alphabetical order.
  allTags() {
    const found = new Set();
    for (const item of this.byId.values()) for (const tag of item.tags) found.add(tag);
    return [...found].sort();
  },

  // How many have a note or tags, and no mark.
  countNoted() {
    return this.byId.size - MARKS.reduce((sum, mark) => sum + this.count(mark), 0);
  },

  // In the order of object_id, so that the same marks give the same file. Notes and tags without a mark have lines too.
  toCsv() {
    const ids = [...this.byId.keys()].sort(compareIds);
    const lines = ids.map((id) => {
      const { mark, note, tags } = this.item(id);
      return [CSV_VERSION, id, mark, note, tags.join("; ")].map(csvCell).join(",");
    });
    return [CSV_COLUMNS.join(","), ...lines, ""].join("\r\n");
  },

  // Reads what toCsv wrote, all of it or nothing. Returns the number of objects, or throws an Error that names the line.
  addCsv(text) {
    const rows = parseCsv(text.replace(/^\ufeff/, ""));
    const header = (rows.shift() || { cells: [] }).cells.map((name) => name.trim());
    const place = Object.fromEntries(CSV_COLUMNS.map((name) => [name, header.indexOf(name)]));
    for (const name of CSV_COLUMNS.slice(0, 3)) if (place[name] < 0) throw new Error(`line 1: no column ${name}`);
    const found = rows.map(({ cells, line }) => {
      const [version, id, mark, note, tagged] = CSV_COLUMNS.map((name) => plainCell(cells[place[name]] ?? ""));
      const tags = tagsOf(tagged, ";");
      if (!READ_VERSIONS.includes(version)) {
        throw new Error(`line ${line}: format_version ${version} is not ${READ_VERSIONS.join(" or ")}`);
      }
      if (mark && !MARKS.includes(mark)) throw new Error(`line ${line}: mark ${mark} is not one of ${MARKS.join(", ")}`);
      if (!mark && !note && !tags.length) throw new Error(`line ${line}: object_id ${id} has no mark, note or tag`);
      if (!IDS.has(id)) throw new Error(`line ${line}: object_id ${id} is not among these candidates`);
      return [id, { mark, note, tags }];
    });
    this.remember("import", found.map(([id]) => id));
    for (const [id, item] of found) this.put(id, item);
    this.save();
    return found.length;
  },
};

// Each tag once, without blanks around it.
function tagsOf(text, separator = /[;,]/) {
  return [...new Set(text.split(separator).map((tag) => tag.trim()).filter(Boolean))];
}

// A spreadsheet would run a cell that begins like a formula; a "'" before it makes it text.
function csvCell(text) {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function plainCell(text) {
  return text.startsWith("'") && FORMULA.test(text.slice(1)) ? text.slice(1) : text;
}

// Rows of CSV with the line on which each begins; empty lines are left out.
function parseCsv(text) {
  const rows = [];
  let cells = [], cell = "", quoted = false, line = 1, first = 1;
  const end = () => {
    cells.push(cell);
    if (cells.length > 1 || cells[0] !== "") rows.push({ cells, line: first });
    cells = [];
    cell = "";
    first = line;
  };
  for (let k = 0; k < text.length; k += 1) {
    const letter = text[k];
    if (letter === "\n") line += 1;
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[k + 1] === '"') { cell += '"'; k += 1; } else quoted = false;
    } else if (letter === '"' && cell === "") quoted = true;
    else if (letter === ",") { cells.push(cell); cell = ""; }
    else if (letter === "\n") end();
    else if (letter !== "\r") cell += letter;
  }
  if (quoted) throw new Error(`line ${first}: a quoted cell does not end`);
  end();
  return rows;
}

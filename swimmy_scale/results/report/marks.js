// Marks and notes of candidates: kept in this browser for this run, saved and read as CSV.

const MARKS = ["interesting", "artefact", "known"];
const CSV_COLUMNS = ["format_version", "object_id", "mark", "note"];
const CSV_VERSION = "1";
const FORMULA = /^'*[=+\-@\t\r]/;

const marks = {
  key: `swimmy-scale:marks:${DATA.run}`,
  byId: new Map(),
  kept: true,

  load() {
    try {
      const stored = JSON.parse(localStorage.getItem(this.key) || "[]");
      this.byId = new Map(stored.filter(([, item]) => MARKS.includes(item.mark) || item.note));
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

  of(id) {
    return this.byId.get(id)?.mark || "";
  },

  note(id) {
    return this.byId.get(id)?.note || "";
  },

  // The same mark again removes it.
  toggle(id, mark) {
    this.set(id, this.of(id) === mark ? "" : mark, this.note(id));
  },

  set(id, mark, note) {
    if (mark || note) this.byId.set(id, { mark, note });
    else this.byId.delete(id);
    this.save();
  },

  count(mark) {
    let number = 0;
    for (const item of this.byId.values()) if (item.mark === mark) number += 1;
    return number;
  },

  // How many have a note and no mark.
  countNoted() {
    return this.byId.size - MARKS.reduce((sum, mark) => sum + this.count(mark), 0);
  },

  // In the order of object_id, so that the same marks give the same file. A note without a mark has a line too.
  toCsv() {
    const ids = [...this.byId.keys()].sort(compareIds);
    const lines = ids.map((id) => [CSV_VERSION, id, this.of(id), this.note(id)].map(csvCell).join(","));
    return [CSV_COLUMNS.join(","), ...lines, ""].join("\r\n");
  },

  // Reads what toCsv wrote, all of it or nothing. Returns the number of objects, or throws an Error that names the line.
  addCsv(text) {
    const rows = parseCsv(text.replace(/^\ufeff/, ""));
    const header = (rows.shift() || { cells: [] }).cells.map((name) => name.trim());
    const place = Object.fromEntries(CSV_COLUMNS.map((name) => [name, header.indexOf(name)]));
    for (const name of CSV_COLUMNS.slice(0, 3)) if (place[name] < 0) throw new Error(`line 1: no column ${name}`);
    const present = new Set(ALL.id);
    const found = rows.map(({ cells, line }) => {
      const [version, id, mark, note] = CSV_COLUMNS.map((name) => plainCell(cells[place[name]] ?? ""));
      if (version !== CSV_VERSION) throw new Error(`line ${line}: format_version ${version} is not ${CSV_VERSION}`);
      if (mark && !MARKS.includes(mark)) throw new Error(`line ${line}: mark ${mark} is not one of ${MARKS.join(", ")}`);
      if (!mark && !note) throw new Error(`line ${line}: object_id ${id} has neither a mark nor a note`);
      if (!present.has(id)) throw new Error(`line ${line}: object_id ${id} is not among these candidates`);
      return [id, { mark, note }];
    });
    for (const [id, item] of found) this.byId.set(id, item);
    this.save();
    return found.length;
  },
};

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

// Says the server's English sentences in another language. A table's keys are parts of sentences, its values the same in
// that language; what no key fits stays English.
//   {what} stands for any text, which is said in that language too; {#many} for a number or a span of them, with its %;
//   {@role} for a role of attention; {,one} for a text without the marks that part a list; {;one} for one that may have
//   commas, but no semicolon.
//   [s] may stand there or not; [is|are] is one of these. ^ is the beginning of the text.
// A key that is one word alone is said where it is the whole text. Of several that fit, the one that takes most of
// the text is said, so that a sentence comes before its parts.

const NUMBER = String.raw`[-+]?\d+(?:[.,-]\d+)*(?:e[-+]?\d+)?(?: ?%)?|inf`;
// Within one sentence; at the end of a key as much of it as there is.
const TEXT = String.raw`(?:(?!\.\s+[A-Z]).)+?`;
// What is parted by commas, or by semicolons. A point between two figures parts nothing.
const ITEM = String.raw`(?! )(?:[^,;:.]|\.(?=\d))+?`;
const ITEMS = String.raw`(?! )(?:[^;:.]|\.(?=\d))+?`;
const ROLE = "[a-z]+(?: to [a-z]+| self| cross)?";
const WORD = /[\w-]/;
const FULL = { ",": "\uff0c", ";": "\uff1b", ":": "\uff1a", ".": "\u3002" };
// Chinese, or what stands in the middle of it.
const WIDE = "[\\u2018-\\u201d\\u3000-\\u9fff\\uff00-\\uffef]";
const MARKS = new RegExp(`(?<=${WIDE}) *([,;:](?=\\s|$|${WIDE})|\\.(?=\\s|$)) *|([,;:.]) +(?=${WIDE})|(\\.)$`, "gm");
const SPACE = new RegExp(`(?<=${WIDE}) +(?=${WIDE})`, "g");
const MOST = 4000;

const escaped = (text) => text.replace(/[.*+?^${}()|\\]/g, "\\$&");

// The parts of a key: texts, { name, kind }, { either: [text, ...] }.
function partsOf(key) {
  return key.split(/(\{[#@,;]?\w+\}|\[[^\]]*\])/).filter(Boolean).map((part) => {
    const place = part.match(/^\{([#@,;]?)(\w+)\}$/);
    if (place) return { name: place[2], kind: { "#": NUMBER, "@": ROLE, ",": ITEM, ";": ITEMS }[place[1]] ?? TEXT };
    return /^\[.*\]$/.test(part) ? { either: part.slice(1, -1).split("|") } : part;
  });
}

function pattern(parts, anchored) {
  const source = parts.map((part, at) => {
    if (part.name) return `(${at === parts.length - 1 ? part.kind.replace(/\)\+\?$/, ")+") : part.kind})`;
    if (part.either) return `(?:${part.either.map(escaped).join("|")})${part.either.length > 1 ? "" : "?"}`;
    const [first, rest] = [part[0], escaped(part.slice(1))];
    return (at || first.toLowerCase() === first.toUpperCase() ? escaped(first) : `[${first.toLowerCase()}${first.toUpperCase()}]`) + rest;
  });
  const [first, last] = [parts[0], parts.at(-1)];
  const begins = [NUMBER, ROLE].includes(first.kind) || (typeof first === "string" && WORD.test(first[0]));
  const ends = last.kind === NUMBER || last.either || (typeof last === "string" && WORD.test(last.at(-1)));
  // A point at the end of a sentence is none of a number.
  const after = ends ? "(?![\\w-])" : last.endsWith?.(".") ? "(?<!\\d\\.(?=\\d))" : "";
  return new RegExp(`${anchored ? "^" : begins ? "(?<![\\w-])" : ""}${source.join("")}${after}`);
}

function compile([key, said]) {
  const anchored = key.startsWith("^");
  const parts = partsOf(anchored ? key.slice(1) : key);
  const texts = parts.filter((part) => typeof part === "string");
  // Looked for before the expression: most keys are in no given text. Without its first letter, which has two forms.
  const probe = texts.map((text, i) => (i ? text : text.slice(1))).reduce((one, other) => (other.length > one.length ? other : one), "");
  const names = parts.filter((part) => part.name).map((part) => part.name);
  return { key, said, probe, names, size: texts.join("").length, regex: pattern(parts, anchored) };
}

// table: key -> the same in the language. Gives say(text, used), which adds the keys that it used to the Set `used`.
export function speaker(table) {
  const words = new Map(Object.entries(table).filter(([key]) => /^\w+$/.test(key)));
  const rules = Object.entries(table).filter(([key]) => !words.has(key)).map(compile).sort((one, other) => other.size - one.size);
  const known = new Map();

  function parts(text, used) {
    if (!/[A-Za-z]/.test(text)) return text;
    const alone = words.get(text.trim());
    if (alone !== undefined) return text.replace(text.trim(), () => alone);
    const [rule, found] = widest(text);
    if (!rule) return text;
    used?.add(rule.key);
    const values = Object.fromEntries(rule.names.map((name, i) => [name, parts(found[i + 1], used)]));
    const middle = rule.said.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
    return parts(text.slice(0, found.index), used) + middle + parts(text.slice(found.index + found[0].length), used);
  }

  function widest(text) {
    let [best, match] = [null, null];
    for (const rule of rules) {
      const found = text.includes(rule.probe) && text.match(rule.regex);
      if (found && !(found[0].length <= match?.[0].length)) [best, match] = [rule, found];
    }
    return [best, match];
  }

  return (text, used) => {
    if (!used && known.has(text)) return known.get(text);
    const said = parts(text, used);
    // Beside Chinese stand Chinese marks, without a space.
    const tidy = said === text ? text : said.replace(MARKS, (all) => FULL[all.trim()]).replace(SPACE, "");
    if (known.size >= MOST) known.clear();
    known.set(text, tidy);
    return tidy;
  };
}

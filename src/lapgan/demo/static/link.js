// What the page shows, as the part of its address after "#": a link reproduces it.

export const DEFAULTS = {
  view: "sheet", class: "all", seed: 0, count: 20, best: 1, image: 0, redraw: "", variant: 0, other: 1,
  from: "", coarse: "",
};

// Reads a state; what is unknown or no number where one is expected is left out.
export function read(hash) {
  const state = { ...DEFAULTS };
  for (const [name, text] of new URLSearchParams(hash.slice(1))) {
    if (!(name in DEFAULTS)) continue;
    if (typeof DEFAULTS[name] === "number") {
      if (/^\d{1,9}$/.test(text)) state[name] = Number(text);
    } else state[name] = text;
  }
  return state;
}

export function write(state) {
  const changed = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name]);
  return `#${new URLSearchParams(changed)}`;
}

// Pixels as text for a link, and back; null where the text is not of that many pixels.
export const encode = (bytes) => {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
};

export function decode(text, length) {
  try {
    const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return plain.length === length ? Uint8Array.from(plain, (c) => c.charCodeAt(0)) : null;
  } catch {
    return null;
  }
}

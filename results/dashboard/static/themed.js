// "var(--name)" anywhere in a figure becomes the colour that the theme gives it.
"use strict";

window.themed = (value) => {
  if (typeof value === "string") {
    const match = /^var\((--[\w-]+)\)$/.exec(value);
    return match ? getComputedStyle(document.documentElement).getPropertyValue(match[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.map(window.themed);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, window.themed(inner)]));
  }
  return value;
};

/** Make an element with a class and children, which are elements or texts. */
export function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

export const byId = (id) => document.getElementById(id);

export function percent(probability) {
  if (probability > 0 && probability < 0.001) return "< 0.1%";
  return `${(100 * probability).toFixed(1)}%`;
}

// What both parts of the page use

const $ = id => document.getElementById(id);

function say(element, text, bad = false) {
  // Unchanged text is left alone: screen readers would read it out again.
  if (element.textContent !== text) element.textContent = text;
  element.classList.toggle("bad", bad);
}

const wsUrl = path => location.origin.replace(/^http/, "ws") + path;

/** Adds to a list, which keeps the newest, and shows the end to whoever was looking at it. */
function add(list, item, kept) {
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  list.append(item);
  if (list.children.length > kept) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

/** An element with a text, which is never HTML: messages come from anybody. */
function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function copies(button, from) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(from);  // where pages may not write the clipboard, Ctrl+C is left
    await navigator.clipboard?.writeText(from.textContent).then(() => say(button, "Copied"), () => {});
    setTimeout(() => say(button, label), 2_000);
  });
}

/** A text as one word of a shell. */
const quoted = text => `'${text.replaceAll("'", "'\\''")}'`;


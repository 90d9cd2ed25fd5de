// Shows what is found while a query is being typed. Without this the form works as forms do.
const form = document.querySelector("form[role=search]");
const input = form.elements.q;
const page = document.getElementById("Hits");
const panel = page ?? form.appendChild(Object.assign(document.createElement("div"), { className: "live", hidden: true }));

let timer, pending;

async function look() {
  pending?.abort();
  pending = new AbortController();
  const address = `${form.action}?${new URLSearchParams({ q: input.value })}`;
  try {
    const answer = await fetch(`${address}&part=hits`, { signal: pending.signal });
    panel.innerHTML = answer.ok ? await answer.text() : ""; // made by our server, which escapes
    panel.hidden = !page && !(answer.ok && input.value.trim());
    if (page) history.replaceState(null, "", address);
  } catch (error) {
    if (error.name !== "AbortError") panel.hidden = !page;
  }
}

input.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(look, 120);
});

if (!page) {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") panel.hidden = true;
  });
  form.addEventListener("focusout", (event) => {
    if (!form.contains(event.relatedTarget)) panel.hidden = true;
  });
}

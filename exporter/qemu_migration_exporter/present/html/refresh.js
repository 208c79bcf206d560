// Replace the page's content every few seconds, without losing the scroll position, and not while text is selected.
const seconds = Number(document.documentElement.dataset.refresh);
async function refresh() {
  if (document.hidden || String(getSelection())) return;
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of ["header.top", "main"]) document.querySelector(part).replaceWith(next.querySelector(part));
  document.title = next.title;
}
if (seconds) setInterval(() => refresh().catch(() => {}), 1000 * seconds);

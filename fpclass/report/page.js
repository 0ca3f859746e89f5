"use strict";
// Folded parts are printed too.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
document.querySelectorAll("button.copy").forEach((button) => {
  const paste = document.getElementById(button.dataset.copies);
  const said = (text) => { button.textContent = text; };
  const select = () => {
    const range = document.createRange();
    range.selectNodeContents(paste);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(paste.innerText);
      said("Copied");
    } catch {
      select();  // a page from a file may have no clipboard of its own
      said(document.execCommand("copy") ? "Copied" : "Selected: copy it with Ctrl+C");
    }
  });
});

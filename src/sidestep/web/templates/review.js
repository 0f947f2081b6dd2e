"use strict";
// Choices live in the page alone and leave it as a file: no storage, no network.
(() => {
  const panel = document.getElementById("reviewing");
  const boxes = [...document.querySelectorAll("fieldset[data-exhibit]")];
  const reviewer = document.getElementById("reviewer");
  const state = document.getElementById("reviewing-state");
  const file = document.getElementById("saved-reviews");
  let unsaved = false;

  const chosen = (box) => box.querySelector("input[type=radio]:checked");
  const noteOf = (box) => box.querySelector("input[type=text]");
  const plain = (field) => (field.value = field.value.replace(/\s+/g, " ").trim());
  const say = (text) => { state.textContent = text; };
  const count = (more) => {
    const done = boxes.filter(chosen).length;
    say(`${done} of ${boxes.length} exhibits chosen${unsaved ? ", not saved" : ""}. ${more || ""}`);
  };
  const go = (field, text) => {
    for (let d = field.closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
    field.focus();
    say(text);
  };

  const save = () => {
    [reviewer, ...boxes.map(noteOf)].forEach(plain);
    if (!reviewer.value) return go(reviewer, "Type your name first.");
    const odd = [reviewer, ...boxes.map(noteOf)].find((field) => !field.checkValidity());
    if (odd) return go(odd, "This text cannot be saved: " + odd.title);
    const bare = boxes.find((box) => noteOf(box).value && !chosen(box));
    if (bare) return go(noteOf(bare), `Exhibit ${bare.dataset.exhibit} has a note and no choice.`);
    const rows = boxes.filter(chosen);
    if (!rows.length) return go(boxes[0].querySelector("input"), "Nothing is chosen yet.");
    const reviews = rows.map((box) => ({
      choice: chosen(box).value, exhibit: box.dataset.exhibit, note: noteOf(box).value,
    }));
    const date = new Date().toISOString().slice(0, 19) + "Z";
    const all = {
      audit: panel.dataset.audit, date, form: "sidestep-reviews", reviewer: reviewer.value, reviews,
      version: 1,
    };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(all)], { type: "application/json" }));
    link.download = `reviews-${panel.dataset.audit.slice(0, 12)}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;
    count(`Handed to the browser as ${link.download}.`);
  };

  const open = async () => {
    try {
      const all = JSON.parse(await file.files[0].text());
      if (all.audit !== panel.dataset.audit) return say("That file is about another audit.");
      reviewer.value = all.reviewer || "";
      for (const one of all.reviews) {
        const box = boxes.find((b) => b.dataset.exhibit === one.exhibit);
        const radio = box && [...box.querySelectorAll("input[type=radio]")]
          .find((r) => r.value === one.choice);
        if (!radio) return say(`The report shows no exhibit ${one.exhibit} with that choice.`);
        radio.checked = true;
        noteOf(box).value = one.note || "";
      }
      count("Opened.");
    } catch {
      say("That is no file of reviews.");
    } finally {
      file.value = "";
    }
  };

  const changed = (event) => {
    if (event.target === file) return;
    unsaved = true;
    count();
  };
  document.addEventListener("input", changed);
  document.getElementById("save-reviews").addEventListener("click", save);
  file.addEventListener("change", open);
  window.addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
  [panel, ...boxes].forEach((one) => { one.hidden = false; });
  count();
})();

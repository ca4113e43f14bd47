// After the reader has seen strength 1: the prediction beside what happened, and accuracies that were measured beforehand.

import { percent } from "./panel.js";

const WORDS = {
  same: "that it answers as before",
  wrong: "that it answers in good sentences, but wrongly",
  broken: "that it writes no sensible sentence",
};

const element = (name, text = "") => Object.assign(document.createElement(name), { textContent: text });

/** @param {{topic: string, other: string} | null} guess */
export function showPrediction(place, topic, guess) {
  if (!guess) {
    place.replaceChildren();
    return;
  }
  place.replaceChildren(
    element("p", `You predicted on ${topic.name}: ${WORDS[guess.topic]}. On something else: ${WORDS[guess.other]}. Read both answers ` +
      "above at strength 1: were you right?"),
  );
}

/** A table of measured accuracies: base model and adapter, on the topic and on general knowledge. */
export function showScores(place, topic) {
  const names = { [topic.scored]: topic.name, general: "general knowledge" };
  const rows = Object.entries(names).filter(([set]) => topic.scores[set]);
  if (!rows.length) {
    place.replaceChildren();
    return;
  }
  const table = element("table");
  table.className = "scores";
  const head = element("tr");
  for (const title of ["Questions on", "base model", "unlearned, s = 1"]) {
    head.append(Object.assign(element("th", title), { scope: "col" }));
  }
  const top = element("thead");
  top.append(head);
  const body = element("tbody");
  for (const [set, name] of rows) {
    const line = element("tr");
    line.append(Object.assign(element("th", name), { scope: "row" }));
    for (const who of ["base", "unlearned"]) line.append(element("td", said(topic.scores[set][who])));
    body.append(line);
  }
  const number = topic.scores.general.base.questions;
  table.append(
    element("caption", `Measured before this page was written: share of ${number} multiple-choice questions of each kind that the model ` +
      "answers correctly, with 95% intervals. Guessing gives about 25%."),
    top,
    body,
  );
  place.replaceChildren(table);
}

const said = ({ accuracy, interval: [low, high] }) => `${percent(accuracy)} [${percent(low)}, ${percent(high)}]`;

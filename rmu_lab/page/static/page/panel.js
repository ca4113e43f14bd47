// A question, its answer and the bars of its next token. All text is set as text: what a model writes is never markup.

const OWN = "own";

export class Panel {
  #article;
  #questions = [];

  /**
   * @param {HTMLElement} article that it fills
   * @param {() => void} onChange called when the reader asks another question
   */
  constructor(article, onChange) {
    this.#article = article;
    article.append(document.getElementById("panel").content.cloneNode(true));
    this.#find(".question").addEventListener("change", () => {
      const own = this.#find(".question").value === OWN;
      this.#find(".own").hidden = !own;
      if (own) this.#find(".own-question").focus();
      if (this.question) onChange();
    });
    this.#find(".own").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.question) onChange();
    });
  }

  #find(selector) {
    return this.#article.querySelector(selector);
  }

  /** Offer questions, of which the first is asked. */
  set questions(questions) {
    this.#questions = questions;
    const options = questions.map(({ question }, index) => new Option(question, index));
    this.#find(".question").replaceChildren(...options, new Option("Your own question …", OWN));
    this.#find(".own").hidden = true;
  }

  /** What is asked now: question and beginning of a sentence; null while the reader has typed nothing. */
  get question() {
    const value = this.#find(".question").value;
    if (value !== OWN) return this.#questions[Number(value)];
    const typed = this.#find(".own-question").value.trim();
    return typed ? { question: typed, beginning: "" } : null;
  }

  waiting() {
    this.#find(".answer-title").textContent = `Asked “${this.question.question}”, the model answers`;
    this.#article.classList.add("stale");
    this.#find(".answer").setAttribute("aria-busy", "true");
  }

  writing(text) {
    this.#article.classList.remove("stale");
    this.#find(".answer").textContent = text;
  }

  done(text) {
    this.writing(text || "(It writes nothing.)");
    this.#find(".answer").setAttribute("aria-busy", "false");
  }

  /** Draw the likeliest next tokens. */
  bars(tokens, beginning) {
    const title = beginning ? `“${beginning} …” goes on with` : "The answer begins with";
    this.#find(".bars-title").textContent = title;
    this.#find(".bars caption").textContent = title;
    this.#find(".bars tbody").replaceChildren(...tokens.map(row));
  }
}

function row({ token, probability }) {
  const line = document.createElement("tr");
  const name = document.createElement("th");
  name.scope = "row";
  name.textContent = visible(token);
  const cell = document.createElement("td");
  const bar = document.createElement("span");
  bar.className = "bar-fill";
  bar.style.width = `${100 * probability}%`;
  const share = document.createElement("span");
  share.className = "share";
  share.textContent = percent(probability);
  cell.append(bar, share);
  line.append(name, cell);
  return line;
}

const visible = (token) => token.replaceAll("\n", "↵").trim() || "␣";
export const percent = (share) => (share > 0 && share < 0.005 ? "< 1%" : `${Math.round(100 * share)}%`);

// Before anything is drawn: the reader's choice of colours, which otherwise follow the system's.
(() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem("rmu-lab-theme");
  } catch {
    // Storage is closed to this page: the choice lasts as long as the page.
  }
  const isDark = () => (chosen ? chosen === "dark" : system.matches);
  const show = () => {
    root.dataset.theme = isDark() ? "dark" : "light";
    document.getElementById("theme")?.setAttribute("aria-pressed", String(isDark()));
  };
  system.addEventListener("change", show);
  show();
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.hidden = false;
    button.addEventListener("click", () => {
      chosen = isDark() ? "light" : "dark";
      try {
        localStorage.setItem("rmu-lab-theme", chosen);
      } catch {
        // as above
      }
      show();
    });
    show();
  });
})();

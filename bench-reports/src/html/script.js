
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // Light and dark: the system's choice until the button is pressed.
  const theme = document.getElementById("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // Values on hover and on focus. Without this script the browser's own tooltips show the same texts.
  const tip = document.getElementById("tip");
  let told = null;
  const hide = () => {
    told = null;
    tip.hidden = true;
  };
  const place = () => {
    if (!told) return;
    const at = told.getBoundingClientRect();
    const own = tip.getBoundingClientRect();
    const x = Math.min(at.left + at.width / 2 - own.width / 2, innerWidth - own.width - 8);
    const above = at.top - own.height - 8;
    tip.style.left = `${Math.max(x, 8)}px`;
    tip.style.top = `${above > 4 ? above : at.bottom + 8}px`;
  };
  const show = (mark) => {
    told = mark;
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    place();
  };
  for (const title of all("svg title")) {
    const mark = title.parentNode;
    mark.dataset.tip = title.textContent;
    title.remove();
  }
  for (const head of all("th[title]")) {
    head.dataset.tip = head.title;
    head.removeAttribute("title");
  }
  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest("[data-tip]");
    // A page that scrolls under a pointer at rest must not hide what the keyboard shows.
    if (mark) show(mark); else if (!told?.classList.contains("now")) hide();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  // Focus scrolls, and boxes scroll by themselves: the tip stays with its mark.
  addEventListener("scroll", place, { passive: true, capture: true });

  // A drawing is one stop of the Tab key; the arrow keys walk through its marks.
  const visible = (mark) => !mark.closest("[data-away]") && mark.getClientRects().length > 0;
  for (const box of all("[data-marks]")) {
    const marks = all("[data-tip]", box);
    if (marks.length === 0) continue;
    let now = 0;
    const go = (to) => {
      marks[now].classList.remove("now");
      now = to;
      marks[now].classList.add("now");
      show(marks[now]);
    };
    const step = (by) => {
      let to = now + by;
      while (marks[to] && !visible(marks[to])) to += by;
      if (marks[to]) go(to);
    };
    box.tabIndex = 0;
    box.setAttribute("aria-roledescription", "drawing; arrow keys tell its values");
    box.addEventListener("focus", () => { if (box.matches(":focus-visible")) go(now); });
    box.addEventListener("blur", () => { marks[now].classList.remove("now"); hide(); });
    box.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (by) { event.preventDefault(); step(by); }
      if (event.key === "Enter") marks[now].dispatchEvent(new MouseEvent("click", { bubbles: true }));
    });
  }

  // Tables sort by a click on a heading; a second click turns the order around.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  const compare = (a, b, down) => {
    // Cells without a figure ("–") stay last, whichever way it sorts.
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    const order = typeof a === "number" ? a - b : a.localeCompare(b);
    return down ? -order : order;
  };
  for (const table of all("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const title = head.querySelector("span");
      const sort = document.createElement("button");
      sort.type = "button";
      sort.textContent = title.textContent;
      title.replaceWith(sort);
      head.setAttribute("aria-sort", "none");
      sort.addEventListener("focus", () => { if (head.dataset.tip && sort.matches(":focus-visible")) show(head); });
      sort.addEventListener("blur", hide);
      sort.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        [...body.rows]
          .sort((a, b) => compare(valueOf(a, column), valueOf(b, column), down))
          .forEach((row) => body.append(row));
      });
    });
  }

  // Flamegraphs: a click makes a frame as wide as the drawing; what calls it stays above, all else goes away.
  for (const flame of all(".flame")) {
    const frames = all(".fr", flame).map((box) => ({
      box,
      mark: box.firstElementChild,
      x: parseFloat(box.getAttribute("x")),
      width: parseFloat(box.getAttribute("width")),
      y: Number(box.getAttribute("y")),
    }));
    const nameOf = (frame) => frame.mark.dataset.tip.replace(/ \([^(]*\)$/, "");
    const zoom = (to) => {
      for (const frame of frames) {
        const calls = frame.y < to.y && frame.x <= to.x + 0.002 && frame.x + frame.width >= to.x + to.width - 0.002;
        const inside = frame.y >= to.y && frame.x >= to.x - 0.002 && frame.x + frame.width <= to.x + to.width + 0.002;
        frame.box.toggleAttribute("data-away", !calls && !inside);
        frame.box.classList.toggle("calls", calls && to.y > 0);
        const width = calls ? 100 : (frame.width / to.width) * 100;
        frame.box.setAttribute("x", `${calls ? 0 : ((frame.x - to.x) / to.width) * 100}%`);
        frame.box.setAttribute("width", `${width}%`);
        if (inside && width > 0.6 && !frame.box.querySelector("text")) {
          const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
          text.setAttribute("x", "3");
          text.setAttribute("y", "12");
          text.textContent = nameOf(frame);
          frame.box.append(text);
        }
      }
    };
    const whole = () => zoom({ x: 0, width: 100, y: 0 });
    for (const frame of frames) frame.box.addEventListener("click", () => { hide(); zoom(frame); });
    flame.addEventListener("keydown", (event) => { if (event.key === "Escape") whole(); });
    flame.querySelector("[data-reset]").addEventListener("click", whole);
    const found = flame.querySelector("output");
    flame.querySelector("input").addEventListener("input", (event) => {
      const wanted = event.target.value.toLowerCase();
      const hits = frames.filter((frame) => {
        const hit = wanted !== "" && nameOf(frame).toLowerCase().includes(wanted);
        frame.box.classList.toggle("hit", hit);
        return hit;
      });
      // A frame below another hit is already counted with it.
      const outer = hits.filter((hit) => !hits.some((other) =>
        other.y < hit.y && other.x <= hit.x + 0.002 && other.x + other.width >= hit.x + hit.width - 0.002));
      const share = outer.reduce((sum, frame) => sum + frame.width, 0);
      found.textContent = wanted === "" ? "" : `${hits.length} frames, ${share.toFixed(1)} % of the width`;
    });
  }

  // On paper, nothing can be unfolded.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of closed) details.open = false; });
})();

(() => {
  const byId = (id) => document.getElementById(id);
  const frames = [...document.querySelectorAll(".f")].map((g) => {
    const [title, rect, box] = g.children;
    const at = (name) => parseFloat(rect.getAttribute(name));
    return { g, rect, box, title: title.textContent, x: at("x"), width: at("width"), y: at("y") };
  });
  const nameOf = (frame) => frame.title.replace(/ \([^(]*\)$/, "");
  const told = byId("told");
  const zoom = (to) => {
    for (const frame of frames) {
      const end = frame.x + frame.width;
      const calls = frame.y < to.y && frame.x <= to.x + 0.001 && end >= to.x + to.width - 0.001;
      const inside = frame.y >= to.y && frame.x >= to.x - 0.001 && end <= to.x + to.width + 0.001;
      frame.g.style.display = calls || inside ? "" : "none";
      frame.g.classList.toggle("calls", calls && to.y > 0);
      const x = `${calls ? 0 : ((frame.x - to.x) / to.width) * 100}%`;
      const width = calls ? 100 : (frame.width / to.width) * 100;
      for (const part of [frame.rect, frame.box]) {
        part.setAttribute("x", x);
        part.setAttribute("width", `${width}%`);
      }
      if (width > 0.6 && !frame.box.firstChild) {
        const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
        text.setAttribute("x", "3");
        text.setAttribute("y", "12");
        text.textContent = nameOf(frame);
        frame.box.append(text);
      }
    }
  };
  for (const frame of frames) {
    frame.g.addEventListener("click", () => zoom(frame));
    frame.g.addEventListener("mouseover", () => { told.textContent = frame.title; });
  }
  byId("whole").addEventListener("click", () => zoom({ x: 0, width: 100, y: 0 }));
  byId("find").addEventListener("click", () => {
    const wanted = (prompt("Find frames whose name holds:") || "").toLowerCase();
    const hits = frames.filter((frame) => {
      const hit = wanted !== "" && nameOf(frame).toLowerCase().includes(wanted);
      frame.g.classList.toggle("hit", hit);
      return hit;
    });
    // A frame below another hit is already counted with it.
    const outer = hits.filter((hit) => !hits.some((other) =>
      other.y < hit.y && other.x <= hit.x + 0.001 && other.x + other.width >= hit.x + hit.width - 0.001));
    const share = outer.reduce((sum, frame) => sum + frame.width, 0);
    told.textContent = wanted === "" ? "" : `${hits.length} frames, ${share.toFixed(1)} % of the width`;
  });
})();

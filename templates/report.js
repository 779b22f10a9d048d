"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  /* Copy a command. The button appears only where the browser can copy. */
  if (navigator.clipboard && window.isSecureContext) {
    for (const button of document.querySelectorAll(".copy")) {
      const idle = button.textContent;
      button.hidden = false;
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(button.previousElementSibling.textContent);
        button.textContent = button.dataset.done;
        setTimeout(() => { button.textContent = idle; }, 1500);
      });
    }
  }

  /* A link into a folded part opens it. */
  const unfold = () => {
    const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  if (location.hash) unfold();

  /* Paper has no folds: open them to print, all but raw listings, and close them again. */
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open], .raw)")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of opened) one.open = false; });

  /* Mark the section being read. */
  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "0px 0px -75% 0px" });
  for (const id of links.keys()) { const at = byId(id); if (at) seen.observe(at); }

  gallery();
  lightbox();

  function gallery() {
    const form = byId("filters"), list = byId("items");
    if (!form || !list) return;
    const items = [...list.children], shown = byId("shown");
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    const wanted = (item) => {
      const state = byId("filter-state").value, data = item.dataset;
      if (byId("filter-class").value && data.label !== byId("filter-class").value) return false;
      if (state === "wrong" && data.wrong !== "yes") return false;
      if (state === "broken" && data.broken !== "yes") return false;
      if (state === "held" && data.broken !== "no") return false;
      return data.text.toLowerCase().includes(byId("search").value.trim().toLowerCase());
    };
    const apply = () => {
      const key = byId("sort").value === "confidence" ? "confidence" : "order";
      items.sort((a, b) => a.dataset[key] - b.dataset[key]);
      let count = 0;
      for (const item of items) { item.hidden = !wanted(item); count += !item.hidden; list.append(item); }
      shown.textContent = shown.dataset.template.replace("##", items.length).replace("#", count);
    };
    form.addEventListener("input", apply);
    apply();
  }

  function lightbox() {
    const dialog = byId("lightbox"), list = byId("items");
    if (!dialog || !list || !dialog.showModal) return;
    const under = byId("lightbox-under"), over = byId("lightbox-over"), opacity = byId("lightbox-opacity");
    const show = (image) => {
      const map = image.classList.contains("signed") || image.classList.contains("unsigned");
      const base = image.closest(".item").querySelector(".original img");
      under.src = map ? base.src : image.src;
      over.hidden = byId("lightbox-control").hidden = !map;
      over.className = map ? [...image.classList].filter((c) => c.endsWith("signed")).join(" ") : "";
      over.src = map ? image.src : "data:,";
      opacity.value = 100; over.style.opacity = 1;
      byId("lightbox-title").textContent = image.alt;
      dialog.showModal();
    };
    opacity.addEventListener("input", () => { over.style.opacity = opacity.value / 100; });
    byId("lightbox-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    for (const image of list.querySelectorAll(".tile img")) { image.tabIndex = 0; image.setAttribute("role", "button"); }
    list.addEventListener("click", (event) => { if (event.target.matches(".tile img")) show(event.target); });
    list.addEventListener("keydown", (event) => {
      if ((event.key === "Enter" || event.key === " ") && event.target.matches(".tile img")) { event.preventDefault(); show(event.target); }
    });
  }
})();

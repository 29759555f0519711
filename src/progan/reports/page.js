"use strict";

// The sliders: each shows one of the stored sample grids.
const sheets = [...document.querySelectorAll("script.sheet")];
for (const panel of document.querySelectorAll(".panel")) {
  const slider = panel.querySelector("input");
  if (!slider) continue;
  const picture = panel.querySelector("img");
  const caption = panel.querySelector("figcaption");
  panel.querySelector(".slider").hidden = false;
  const show = () => {
    const sheet = sheets[slider.value];
    const label = sheet.dataset.label;
    picture.width = sheet.dataset.width;
    picture.height = sheet.dataset.height;
    picture.classList.toggle("sharp", sheet.dataset.sharp === "1");
    picture.alt = "Sample grid after " + label;
    picture.src = sheet.textContent;
    caption.textContent = label;
    slider.setAttribute("aria-valuetext", label);
  };
  slider.addEventListener("input", show);
  show(); // a browser may restore the slider of an earlier visit
}

// How old this page is, since a run that trains goes on without it.
const written = document.querySelector("header time");
const minutes = Math.round((Date.now() - new Date(written.dateTime)) / 60000);
if (minutes >= 1) {
  const [number, unit] =
    minutes < 90 ? [minutes, "minute"] : minutes < 2880 ? [Math.round(minutes / 60), "hour"] : [Math.round(minutes / 1440), "day"];
  written.textContent += ", " + number + " " + unit + (number === 1 ? "" : "s") + " ago";
}

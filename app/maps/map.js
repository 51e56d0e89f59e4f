// Replays a map that leafmap composed, and adds layer switches, opacity, a legend and a popup with the sample.
// Text that people wrote reaches the page through textContent only.
"use strict";

(() => {
  const { map: composed, options } = JSON.parse(document.getElementById("data").textContent);
  const problem = document.getElementById("problem");
  const say = (text) => { problem.textContent = text; problem.hidden = false; };
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const here = (url) => (url.startsWith("/") ? new URL(url, location.origin).href : url);

  // What leafmap may ask for; anything else in its list of calls is ignored, never evaluated.
  const calls = {
    addControl: (map, [kind, settings, position]) => {
      const known = { NavigationControl: 1, FullscreenControl: 1, ScaleControl: 1 };
      if (known[kind]) map.addControl(new maplibregl[kind](settings), position);
    },
    addSource: (map, [id, source]) =>
      map.addSource(id, source.type === "image" ? { ...source, url: here(source.url) } : source),
    addLayer: (map, [layer, before]) => map.addLayer(layer, before || undefined),
    setPaintProperty: (map, args) => map.setPaintProperty(...args),
    setLayoutProperty: (map, args) => map.setLayoutProperty(...args),
  };
  const opacityOf = { raster: "raster-opacity", fill: "fill-opacity", line: "line-opacity" };

  let map;
  try {
    map = new maplibregl.Map({
      ...composed.mapOptions, container: "map", attributionControl: false, renderWorldCopies: false,
      fitBoundsOptions: { padding: 24 },
    });
  } catch (error) {
    say("This browser cannot draw the map: WebGL is not available.");
    return;
  }

  const showSample = (feature, at) => {
    const sample = feature.properties;
    const body = element("div");
    const image = element("img");
    image.alt = "";
    image.src = options.thumbnail.replace("SPLIT", encodeURIComponent(sample.split)).replace("ROW", sample.row);
    body.append(image, element("p", sample.label || sample.id));
    const details = [sample.label ? sample.id : "", sample.split, sample.date || ""].filter(Boolean).join(" · ");
    body.append(element("p", details, "soft"));
    new maplibregl.Popup({ maxWidth: "200px" }).setLngLat(at).setDOMContent(body).addTo(map);
  };

  const addPanel = () => {
    const panel = document.getElementById("panel");
    for (const { id, title } of options.layers) {
      const layer = map.getLayer(id);
      if (!layer) continue;
      const property = opacityOf[layer.type];
      const row = element("label", undefined);
      const box = Object.assign(element("input"), { type: "checkbox", checked: true });
      const range = Object.assign(element("input"), { type: "range", min: 0, max: 1, step: 0.05 });
      range.value = map.getPaintProperty(id, property) ?? 1;
      range.setAttribute("aria-label", `Opacity of ${title}`);
      box.addEventListener("change", () => map.setLayoutProperty(id, "visibility", box.checked ? "visible" : "none"));
      range.addEventListener("input", () => map.setPaintProperty(id, property, Number(range.value)));
      row.append(box, element("span", title), range);
      panel.append(row);
    }
    const legend = element("div", undefined, "legend");
    for (const { title, color } of options.legend) {
      const entry = element("span");
      const swatch = element("span", undefined, "swatch");
      swatch.style.background = color;
      entry.append(swatch, element("span", title));
      legend.append(entry);
    }
    panel.append(legend);
    if (options.note) panel.append(element("div", options.note, "note"));
  };

  map.on("error", (event) => { if (event.error) console.warn(event.error.message); });
  map.on("load", () => {
    for (const [name, args] of composed.calls) if (calls[name]) calls[name](map, args);
    addPanel();
    map.on("click", "Footprints", (event) => showSample(event.features[0], event.lngLat));
    map.on("mouseenter", "Footprints", () => { map.getCanvas().style.cursor = "pointer"; });
    map.on("mouseleave", "Footprints", () => { map.getCanvas().style.cursor = ""; });
    map.once("idle", () => { document.documentElement.dataset.ready = "true"; });
  });
  const position = document.getElementById("position");
  map.on("mousemove", ({ lngLat }) => {
    position.textContent = `${lngLat.lat.toFixed(4)}°, ${lngLat.wrap().lng.toFixed(4)}°`;
  });
  map.on("mouseout", () => { position.textContent = ""; });
})();

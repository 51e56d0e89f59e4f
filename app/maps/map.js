// Replays a map that leafmap composed, and adds layer switches, opacity, legends and what a click tells: a sample's
// picture, or the values of a prediction's layers. Predictions can be swiped: a second map, clipped, in step.
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
  const here = (url) => (typeof url === "string" && url.startsWith("/") ? location.origin + url : url);
  for (const source of Object.values(composed.mapOptions.style.sources)) {
    if (source.data) source.data = here(source.data); // a worker has no address of its own to start from
  }

  // What leafmap may ask for; anything else in its list of calls is ignored, never evaluated.
  const calls = {
    addControl: (map, [kind, settings, position]) => {
      const known = { NavigationControl: 1, FullscreenControl: 1, ScaleControl: 1 };
      if (known[kind]) map.addControl(new maplibregl[kind](settings), position);
    },
    addSource: (map, [id, source]) => {
      const made = { ...source };
      if (made.tiles) made.tiles = made.tiles.map(here);
      for (const key of ["url", "data"]) if (made[key]) made[key] = here(made[key]);
      map.addSource(id, made);
    },
    addLayer: (map, [layer, before]) => map.addLayer(layer, before || undefined),
    setPaintProperty: (map, args) => map.setPaintProperty(...args),
    setLayoutProperty: (map, args) => map.setLayoutProperty(...args),
  };
  const opacityOf = { raster: "raster-opacity", fill: "fill-opacity", line: "line-opacity" };
  const replay = (map, wanted) => {
    for (const [name, args] of composed.calls) if (calls[name] && wanted(name)) calls[name](map, args);
  };
  const open = (container, more) => new maplibregl.Map({
    ...composed.mapOptions, container, attributionControl: { compact: false }, fitBoundsOptions: { padding: 24 },
    // Data may lie across the antimeridian: then a part of it is in the next copy of the world.
    renderWorldCopies: Boolean(options.prediction || options.copies), dragRotate: false, touchPitch: false, pitchWithRotate: false, ...more,
  });
  // The style's names, "text:France", drawn as pictures when they are first needed.
  const drawName = (on, id) => {
    if (!id.startsWith("text:")) return;
    const [font, text, look] = ["22px system-ui, sans-serif", id.slice(5), getComputedStyle(document.documentElement)];
    const canvas = element("canvas");
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.font = font;
    [canvas.width, canvas.height] = [Math.ceil(pen.measureText(text).width) + 10, 32];
    Object.assign(pen, { font, textBaseline: "middle", lineWidth: 4, lineJoin: "round" });
    pen.strokeStyle = look.getPropertyValue("--halo");
    pen.fillStyle = look.getPropertyValue("--soft");
    pen.strokeText(text, 5, 16);
    pen.fillText(text, 5, 16);
    on.addImage(id, pen.getImageData(0, 0, canvas.width, canvas.height), { pixelRatio: 2 });
  };
  // Tiles that cannot be read are said once.
  let failed = false;
  const watch = (on) => {
    on.touchZoomRotate.disableRotation();
    on.keyboard.disableRotation();
    on.on("styleimagemissing", ({ id }) => drawName(on, id));
    on.on("error", (event) => {
      if (event.error) console.warn(event.error.message);
      if (event.tile) on.triggerRepaint(); // or the map would wait for it, and never be idle
      if (failed || !event.tile) return;
      failed = true;
      const online = event.sourceId === "osm";
      const title = options.layers?.find((layer) => layer.id === event.sourceId)?.title ?? "The map";
      const said = online ? "OpenStreetMap cannot be reached." : `${title}: a part could not be drawn.`;
      panel.append(element("div", said, "note"));
    });
  };

  let map;
  try {
    map = open("map", { preserveDrawingBuffer: false });
  } catch (error) {
    say("This browser cannot draw the map: WebGL is not available.");
    return;
  }
  let other = null; // the map on the right of the swipe
  const both = (act) => { act(map); if (other) act(other); };
  const panel = document.getElementById("panel");

  const popup = (on, at, body, wide) =>
    new maplibregl.Popup({ maxWidth: wide ? "300px" : "200px" }).setLngLat(at).setDOMContent(body).addTo(on);

  // -- samples ---------------------------------------------------------------------------------------------------
  const showSample = (feature, at) => {
    const sample = feature.properties;
    const body = element("div");
    const image = element("img");
    image.alt = "";
    image.src = options.thumbnail.replace("{split}", encodeURIComponent(sample.split)).replace("{row}", sample.row);
    body.append(image, element("p", sample.label || sample.id));
    const details = [sample.label ? sample.id : "", sample.split, sample.date || ""].filter(Boolean).join(" · ");
    body.append(element("p", details, "soft"));
    popup(map, at, body);
  };

  // -- layers ----------------------------------------------------------------------------------------------------
  const visible = (on, id, shown) => on.setLayoutProperty(id, "visibility", shown ? "visible" : "none");
  const rows = new Map(); // id -> its checkbox
  const legends = new Map(); // id -> its legend

  const swatches = (entries) => {
    const legend = element("div", undefined, "legend");
    for (const { title, color, share } of entries) {
      const entry = element("span");
      const swatch = element("span", undefined, "swatch");
      swatch.style.background = color;
      entry.append(swatch, element("span", share === undefined ? title : `${title} ${(100 * share).toFixed(1)} %`));
      legend.append(entry);
    }
    return legend;
  };
  const ramp = (colors) => {
    const legend = element("div", undefined, "ramp");
    const bar = element("span", undefined, "bar");
    bar.style.background = `linear-gradient(to right, ${colors.join(",")})`;
    legend.append(element("span", "0 %"), bar, element("span", "100 %"));
    return legend;
  };

  // A layer as it was chosen, on a map that knows it only as at first.
  const retile = (on, layer) => {
    const query = new URLSearchParams({ v: layer.version, bands: layer.now.look, stretch: layer.now.stretch });
    on.getSource(layer.id).setTiles([`${here(layer.tiles)}?${query}`]);
  };
  const fade = (on, layer) => {
    on.setPaintProperty(layer.id, opacityOf[on.getLayer(layer.id).type], layer.now.opacity);
  };
  const dress = (on, layer) => {
    visible(on, layer.id, layer.now.shown);
    fade(on, layer);
    if (layer.ways?.length) retile(on, layer);
  };

  // Where the map is and what is chosen on it stand in the address of the page around it, so that a link restores both.
  const news = new Map(); // name in the address -> its value, until the reader pauses
  let pause;
  const remember = (name, value) => {
    news.set(name, value);
    clearTimeout(pause);
    pause = setTimeout(() => {
      try {
        const around = window.parent;
        const url = new URL(around.location.href);
        for (const [key, said] of news) if (said) url.searchParams.set(key, said); else url.searchParams.delete(key);
        news.clear();
        if (url.href === around.location.href) return;
        around.history.replaceState(around.history.state, "", url);
        // The page reads its address again, as when the reader goes back; or its next choice would undo this.
        around.dispatchEvent(new around.PopStateEvent("popstate", { state: around.history.state }));
      } catch (error) { /* the map stands alone, or in somebody else's page */ }
    }, 250);
  };
  const rememberPlace = () => {
    const { lng, lat } = map.getCenter().wrap();
    remember("at", `${lng.toFixed(5)},${lat.toFixed(5)},${map.getZoom().toFixed(2)}`);
  };
  const written = ({ id, ways, now }) => {
    const parts = [id, Number(now.shown), Number(now.opacity.toFixed(2))];
    if (ways?.length) parts.push(now.look.replace(/[%,;]/g, encodeURIComponent), now.stretch);
    return parts.join(",");
  };
  const swipe = { on: false, left: "", right: "", share: 0.5 };
  const rememberChoices = () => {
    if (!options.prediction) return;
    const chosen = options.layers.filter((layer) => layer.now && written(layer) !== layer.first).map(written);
    if (swipe.on) chosen.push(["swipe", swipe.left, swipe.right, Number(swipe.share.toFixed(2))].join(","));
    remember("map", chosen.join(";"));
  };

  const select = (title, entries, value) => {
    const made = element("select");
    made.setAttribute("aria-label", title);
    for (const entry of entries) made.append(Object.assign(element("option", entry.title), { value: entry.key }));
    made.value = value;
    return made;
  };

  const addRow = (layer) => {
    const drawn = map.getLayer(layer.id);
    if (!drawn) return;
    layer.now = {
      shown: layer.visible ?? true, opacity: map.getPaintProperty(layer.id, opacityOf[drawn.type]) ?? 1,
      look: layer.ways?.[0]?.key ?? "", stretch: options.stretches?.[0] ?? "",
    };
    layer.first = written(layer);
    if (options.chosen?.[layer.id]) {
      Object.assign(layer.now, options.chosen[layer.id]);
      dress(map, layer);
    }
    const { now } = layer;
    const row = element("label");
    const box = Object.assign(element("input"), { type: "checkbox", checked: now.shown });
    const range = Object.assign(element("input"), { type: "range", min: 0, max: 1, step: 0.05, value: now.opacity });
    range.setAttribute("aria-label", `Opacity of ${layer.title}`);
    box.addEventListener("change", () => {
      now.shown = box.checked;
      visible(map, layer.id, now.shown);
      if (legends.has(layer.id)) legends.get(layer.id).hidden = !now.shown;
      rememberChoices();
    });
    range.addEventListener("input", () => {
      now.opacity = Number(range.value);
      both((on) => fade(on, layer));
      rememberChoices();
    });
    row.append(box, element("span", layer.title), range);
    panel.append(row);
    rows.set(layer.id, box);
    if (layer.ways?.length > 1) {
      const look = select(`Bands of ${layer.title}`, layer.ways, now.look);
      const stretches = options.stretches.map((name) => ({ key: name, title: name }));
      const stretch = select(`Stretch of ${layer.title}`, stretches, now.stretch);
      const change = () => {
        Object.assign(now, { look: look.value, stretch: stretch.value });
        both((on) => retile(on, layer));
        rememberChoices();
      };
      look.addEventListener("change", change);
      stretch.addEventListener("change", change);
      const line = element("div", undefined, "choices");
      line.append(look, stretch);
      panel.append(line);
    }
    if (layer.ramp?.length || (options.prediction && layer.legend?.length)) {
      const legend = layer.ramp?.length ? ramp(layer.ramp) : swatches(layer.legend);
      legend.hidden = !now.shown;
      legends.set(layer.id, legend);
      panel.append(legend);
    }
  };

  // -- swipe -----------------------------------------------------------------------------------------------------
  const addSwipe = () => {
    const rasters = options.layers.filter((layer) => map.getLayer(layer.id)?.type === "raster");
    if (rasters.length < 2) return;
    const divider = document.getElementById("divider");
    const surface = document.getElementById("other");
    const box = Object.assign(element("input"), { type: "checkbox" });
    const row = element("label", undefined, "swipe");
    row.append(box, element("span", "Swipe"));
    const line = element("div", undefined, "choices");
    line.hidden = true;
    const find = (kind, prefix) => rasters.find((l) => l.id === `${prefix}:${kind}`);
    const main = (prefix) => find("classes", prefix) || find("changes", prefix);
    const two = find("image", "b") !== undefined;
    const start = {
      left: ((two ? main("a") : find("image_before", "a") || find("image", "a")) || rasters[0]).id,
      right: ((two ? main("b") : find("image_before", "a") ? find("image", "a") : main("a")) || rasters[1]).id,
    };
    Object.assign(swipe, start, options.swipe);
    const sides = rasters.map(({ id, title }) => ({ key: id, title }));
    const left = select("Left of the swipe", sides, swipe.left);
    const right = select("Right of the swipe", sides, swipe.right);
    line.append(left, right);
    panel.append(row, line);

    const place = (value) => {
      swipe.share = Math.min(1, Math.max(0, value));
      divider.style.left = `${100 * swipe.share}%`;
      divider.setAttribute("aria-valuenow", Math.round(100 * swipe.share));
      surface.style.clipPath = `inset(0 0 0 ${100 * swipe.share}%)`;
      rememberChoices();
    };
    divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
    divider.addEventListener("pointermove", (event) => {
      if (divider.hasPointerCapture(event.pointerId)) place(event.clientX / document.body.clientWidth);
    });
    divider.addEventListener("keydown", ({ key }) => {
      if (key === "ArrowLeft" || key === "ArrowRight") place(swipe.share + (key === "ArrowLeft" ? -0.02 : 0.02));
    });

    const show = () => {
      for (const [on, chosen] of [[map, swipe.left], [other, swipe.right]]) {
        // A map lies on its image; an image lies on nothing.
        const ground = rasters.find((layer) => layer.id === chosen).image ? chosen : `${chosen.split(":")[0]}:image`;
        for (const { id } of options.layers) {
          if (on.getLayer(id)) visible(on, id, swipe.on ? id === chosen || id === ground : rows.get(id).checked);
        }
      }
      for (const [id, legend] of legends) {
        legend.hidden = !(swipe.on ? id === swipe.left || id === swipe.right : rows.get(id).checked);
      }
    };
    const follow = (from, to) => from.on("move", () => {
      if (from.following) return;
      to.following = true;
      to.jumpTo({ center: from.getCenter(), zoom: from.getZoom(), bearing: 0, pitch: 0 });
      to.following = false;
    });
    const toggle = () => {
      swipe.on = box.checked;
      line.hidden = divider.hidden = surface.hidden = !swipe.on;
      for (const mark of rows.values()) mark.disabled = swipe.on;
      if (!other) {
        document.documentElement.dataset.swipe = "loading";
        other = open("other", { bounds: undefined, center: map.getCenter(), zoom: map.getZoom() });
        watch(other);
        other.on("load", () => {
          replay(other, (name) => name !== "addControl");
          for (const layer of options.layers) if (layer.now) dress(other, layer);
          follow(map, other);
          follow(other, map);
          other.on("click", clicked);
          show();
          other.once("idle", () => { document.documentElement.dataset.swipe = "ready"; });
        });
      } else {
        other.resize();
        show();
      }
      place(swipe.share);
    };
    const choose = () => {
      Object.assign(swipe, { left: left.value, right: right.value });
      show();
      rememberChoices();
    };
    box.addEventListener("change", toggle);
    left.addEventListener("change", choose);
    right.addEventListener("change", choose);
    if (options.swipe) {
      box.checked = true;
      toggle();
    }
  };

  // -- values ----------------------------------------------------------------------------------------------------
  const clicked = async ({ lngLat, target }) => {
    const place = lngLat.wrap();
    const body = element("div", undefined, "values");
    const answers = await Promise.all(options.values.map(async (url) => {
      try {
        const answer = await fetch(`${url}?lon=${place.lng}&lat=${place.lat}`);
        return answer.ok ? await answer.json() : null;
      } catch (error) { return null; }
    }));
    const samples = new Map(); // of a pack that both were trained on: named once
    answers.forEach((told, number) => {
      if (answers.length > 1) body.append(element("p", "AB"[number]));
      for (const { title, text } of told?.layers ?? []) {
        const line = element("p", `${title}: `, "soft");
        line.append(element("b", text));
        body.append(line);
      }
      if (!told) body.append(element("p", "This could not be read.", "soft"));
      else if (!told.layers.length) body.append(element("p", "Nothing was observed here.", "soft"));
      if (told?.pixel) body.append(element("p", `Pixel: row ${told.pixel.row}, column ${told.pixel.column}`, "soft"));
      for (const sample of told?.samples ?? []) samples.set(JSON.stringify(sample), sample);
    });
    if (samples.size) body.append(element("p", "Samples here, of the pack it was trained on:", "soft"));
    for (const { pack, split, row, id } of samples.values()) {
      const query = new URLSearchParams({ pack, sample: `${split}:${row}` });
      const link = element("a", `${pack} · ${split} · ${id}`);
      Object.assign(link, { href: `/datasets?${query}`, target: "_blank", rel: "noopener" });
      const line = element("p");
      line.append(link);
      body.append(line);
    }
    popup(target, lngLat, body, true);
  };

  watch(map);
  map.on("load", () => {
    replay(map, () => true);
    for (const layer of options.prediction ? [...options.layers].reverse() : options.layers) addRow(layer);
    if (options.prediction) {
      addSwipe();
      map.on("click", clicked);
    } else {
      panel.append(swatches(options.legend));
      map.on("click", "Footprints", (event) => showSample(event.features[0], event.lngLat));
      map.on("mouseenter", "Footprints", () => { map.getCanvas().style.cursor = "pointer"; });
      map.on("mouseleave", "Footprints", () => { map.getCanvas().style.cursor = ""; });
    }
    if (options.note) panel.append(element("div", options.note, "note"));
    map.once("idle", () => {
      if (options.kept) map.on("moveend", rememberPlace);
      document.documentElement.dataset.ready = "true";
    });
  });
  const position = document.getElementById("position");
  map.on("mousemove", ({ lngLat }) => {
    position.textContent = `${lngLat.lat.toFixed(4)}°, ${lngLat.wrap().lng.toFixed(4)}°`;
  });
  map.on("mouseout", () => { position.textContent = ""; });
})();

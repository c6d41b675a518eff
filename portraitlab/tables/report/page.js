"use strict";

// The page's own script: sorting, filters and charts of the data in #report-data.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const rows = new Map(data.rows.map((row) => [row.number, row]));
  const byId = (name) => document.getElementById(name);
  const each = (selector, action) => document.querySelectorAll(selector).forEach(action);

  let order = data.rows.map((row) => row.number);
  let kept = new Set(order); // rows selected in the parallel coordinates
  let shown = new Set(order);

  const drawnRows = () => order.filter((number) => shown.has(number)).map((n) => rows.get(n));

  // Sorting

  const numeric = (values) =>
    values.every((value) => value === null || (value !== "" && Number.isFinite(Number(value))));

  function sortBy(column, descending) {
    const values = data.columns[column].values;
    const isNumber = numeric(values);
    const compare = (left, right) =>
      isNumber ? Number(left) - Number(right) : String(left).localeCompare(String(right));
    order = data.rows.map((row) => row.number);
    order.sort((one, other) => {
      const [left, right] = [values[one - 1], values[other - 1]];
      if (left === null || right === null) return (left === null) - (right === null);
      return descending ? compare(right, left) : compare(left, right);
    });
    each("thead [data-column]", (button) => {
      const own = Number(button.dataset.column) === column;
      const direction = descending ? "descending" : "ascending";
      button.closest("th").setAttribute("aria-sort", own ? direction : "none");
    });
    arrange(byId("rows"));
    each(".drawn", arrange);
    draw();
  }

  function arrange(parent) {
    const places = new Map(order.map((number, place) => [number, place]));
    const place = (child) => places.get(Number(child.dataset.row));
    parent.append(...[...parent.children].sort((one, other) => place(one) - place(other)));
  }

  each("thead [data-column]", (button) => {
    button.addEventListener("click", () => {
      const column = Number(button.dataset.column);
      const now = button.closest("th").getAttribute("aria-sort");
      sortBy(column, now === "none" ? data.columns[column].descends : now === "ascending");
    });
  });

  // Filters

  const texts = new Map();
  each("#rows tr", (line) => {
    texts.set(Number(line.dataset.row), line.textContent.toLowerCase());
  });

  function filter() {
    const words = byId("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = [...document.querySelectorAll("[data-setting]")].filter((menu) => menu.value);
    shown = new Set(
      data.rows
        .filter((row) => kept.has(row.number))
        .filter((row) => words.every((word) => texts.get(row.number).includes(word)))
        .filter((row) =>
          chosen.every((menu) => `=${row.settings[menu.dataset.setting] ?? "–"}` === menu.value),
        )
        .map((row) => row.number),
    );
    each("[data-row]", (part) => {
      part.hidden = !shown.has(Number(part.dataset.row));
    });
    byId("count").textContent = `${shown.size} of ${data.rows.length} rows`;
    draw();
  }

  function clear() {
    byId("filters").reset();
    kept = new Set(order);
    filter();
  }

  byId("find").addEventListener("input", filter);
  each("[data-setting]", (menu) => menu.addEventListener("change", filter));
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", clear);

  // Charts

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // On touch screens a chart must not capture the movement that scrolls the page.
  const drags = (how) => (matchMedia("(pointer: coarse)").matches ? false : how);
  const config = { displaylogo: false, responsive: true, displayModeBar: false };

  function layout(own) {
    const axis = { gridcolor: style("--line"), zerolinecolor: style("--line"), automargin: true };
    return {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: style("--text"), family: "inherit", size: 13 },
      showlegend: false,
      hoverlabel: { namelength: -1 },
      ...own,
      xaxis: { ...axis, ...own.xaxis },
      yaxis: { ...axis, ...own.yaxis },
    };
  }

  // Plotly reads some markup in its texts; escape names.
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const short = (label) => (label.length > 34 ? `${label.slice(0, 33)}…` : label);

  function drawScores() {
    const metric = byId("metric").value;
    const about = data.metrics.find((each) => each.name === metric);
    byId("method").textContent = [
      about.up ? "Higher is better" : "Lower is better",
      about.method,
    ].filter(Boolean).join(": ");
    const own = drawnRows().filter((row) => row.values[metric]?.[0] != null);
    const grey = { colour: style("--quiet"), symbol: "diamond-open" };
    const bounds = data.bounds
      .filter((bound) => bound.values[metric]?.[0] != null)
      .map((bound) => ({ ...bound, ...grey }));
    const all = [...own, ...bounds];
    const traces = all.map((one, place) => ({
      type: "scatter",
      mode: "markers",
      name: escaped(one.label),
      x: [one.values[metric][0]],
      y: [place],
      error_x: { type: "data", array: [one.values[metric][1] ?? 0], thickness: 1.6, width: 5 },
      marker: { color: one.colour, symbol: one.symbol, size: 10 },
      hovertemplate: `%{x:.3f} ±${(one.values[metric][1] ?? 0).toFixed(3)}`,
    }));
    const apart = { color: style("--quiet"), width: 1, dash: "dot" };
    const between = own.length - 0.5;
    Plotly.react("scores-chart", traces, layout({
      height: 70 + 30 * all.length,
      margin: { l: 10, r: 16, t: 8, b: 36 },
      dragmode: drags("zoom"),
      xaxis: { title: { text: `${metric} ${about.up ? "↑" : "↓"}`, standoff: 6 } },
      yaxis: {
        tickvals: all.map((_, place) => place),
        ticktext: all.map((one) => escaped(short(one.label))),
        range: [all.length - 0.5, -0.5],
        fixedrange: true,
        zeroline: false,
      },
      shapes: bounds.length && own.length
        ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: between, y1: between, line: apart }]
        : [],
    }), config);
  }

  // An axis of the parallel coordinates: a row's place in 0..1, its label, and the ticks.
  function settingAxis(name, place) {
    const found = [...new Set(data.rows.map((row) => row.settings[place] ?? "–"))];
    if (numeric(found)) found.sort((one, other) => Number(one) - Number(other));
    const at = (text) => (found.length > 1 ? found.indexOf(text) / (found.length - 1) : 0.5);
    const label = (row) => row.settings[place] ?? "–";
    const ticks = found.length > 12 ? [found[0], found[found.length - 1]] : found;
    return {
      title: name,
      at: (row) => at(label(row)),
      label,
      ticks: ticks.map((text) => [at(text), text]),
    };
  }

  function metricAxis({ name, up }) {
    const value = (row) => row.values[name]?.[0] ?? null;
    const known = data.rows.map(value).filter((each) => each !== null);
    const [least, most] = [Math.min(...known), Math.max(...known)];
    const at = (number) => {
      if (number === null) return null;
      if (most === least) return 0.5;
      return up ? (number - least) / (most - least) : (most - number) / (most - least);
    };
    const ends = most === least ? [most] : [least, (least + most) / 2, most];
    return {
      title: `${name} ${up ? "↑" : "↓"}`,
      at: (row) => at(value(row)),
      label: (row) => (value(row) === null ? "not measured" : value(row).toFixed(3)),
      ticks: known.length ? ends.map((number) => [at(number), number.toFixed(3)]) : [],
    };
  }

  const axes = [...data.settings.map(settingAxis), ...data.metrics.map(metricAxis)];

  function drawParallel() {
    const chart = byId("parallel-chart");
    chart.style.minWidth = `${Math.max(300, 95 * axes.length)}px`;
    const own = drawnRows().filter((row) => Object.keys(row.values).length);
    const places = axes.map((_, place) => place);
    const traces = own.map((row) => ({
      type: "scatter",
      mode: "lines+markers",
      name: escaped(row.label),
      meta: row.number,
      x: places,
      y: axes.map((axis) => axis.at(row)),
      text: axes.map((axis) => escaped(`${axis.title} ${axis.label(row)}`)),
      line: { color: row.colour, dash: row.dash, width: 2 },
      marker: { color: row.colour, symbol: row.symbol, size: 8 },
      hovertemplate: "%{text}",
      // Keep the whole line of a row visible while points are being selected.
      unselected: { marker: { opacity: 0.35 } },
    }));
    const ticks = axes.flatMap((axis, place) =>
      axis.ticks.map(([y, text]) => ({
        x: place,
        y,
        text: escaped(short(text)),
        showarrow: false,
        // Lines leave the lowest points upwards, so labels have room below.
        xanchor: "left",
        xshift: 6,
        yshift: y > 0 ? 10 : -10,
        bgcolor: style("--ground"),
        borderpad: 0,
        opacity: 0.85,
        font: { size: 11, color: style("--text") },
      })),
    );
    Plotly.react(chart, traces, layout({
      height: 380,
      margin: { l: 24, r: 70, t: 44, b: 24 },
      dragmode: drags("select"),
      selections: [],
      selectionrevision: own.length,
      annotations: ticks,
      xaxis: {
        side: "top",
        tickvals: places,
        ticktext: axes.map((axis) => escaped(short(axis.title.split(".").pop()))),
        range: [-0.1, axes.length - 0.9],
        fixedrange: true,
        zeroline: false,
        gridcolor: style("--quiet"),
      },
      yaxis: { visible: false, range: [-0.06, 1.08], fixedrange: true },
    }), config);
    if (!chart.dataset.listens) {
      chart.dataset.listens = "yes";
      chart.on("plotly_selected", (event) => {
        const found = event?.points?.map((point) => point.data.meta) ?? [];
        if (!found.length) return;
        kept = new Set(found);
        filter();
      });
    }
  }

  function drawCurves() {
    const loss = byId("loss").value;
    const traces = drawnRows().filter((row) => row.losses[loss]).map((row) => ({
      type: "scatter",
      mode: row.losses.step.length > 40 ? "lines" : "lines+markers",
      name: escaped(row.label),
      x: row.losses.step,
      y: row.losses[loss],
      connectgaps: false,
      line: { color: row.colour, dash: row.dash, width: 2 },
      marker: { color: row.colour, symbol: row.symbol, size: 7 },
      hovertemplate: "step %{x}: %{y:.4g}",
    }));
    const wide = window.innerWidth > 700;
    Plotly.react("curves-chart", traces, layout({
      height: wide ? 420 : 320,
      margin: { l: 10, r: 16, t: 8, b: 36 },
      dragmode: drags("zoom"),
      xaxis: { title: { text: "step", standoff: 6 }, rangemode: "tozero", zeroline: false },
      yaxis: {
        title: { text: escaped(loss), standoff: 6 },
        type: byId("logarithmic").checked ? "log" : "linear",
      },
    }), config);
  }

  function captions() {
    const metric = byId("metric")?.value;
    each(".score", (caption) => {
      const row = rows.get(Number(caption.closest("[data-row]").dataset.row));
      const value = row.people[metric]?.[caption.dataset.person];
      caption.textContent = value == null ? "" : `${metric} ${value.toFixed(3)}`;
    });
  }

  function draw() {
    if (byId("metric")) {
      drawScores();
      captions();
    }
    if (byId("parallel-chart")) drawParallel();
    if (byId("loss")) drawCurves();
  }

  for (const name of ["metric", "loss", "logarithmic"]) byId(name)?.addEventListener("change", draw);

  byId("size")?.addEventListener("input", (event) => {
    document.documentElement.style.setProperty("--size", `${event.target.value}px`);
  });
  byId("controls")?.addEventListener("change", (event) => {
    document.body.classList.toggle("with-controls", event.target.checked);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  filter();
})();

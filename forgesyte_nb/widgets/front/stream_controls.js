/** What a stream can be told: play, pause, step, stop, speed, intent, and which of the last frames to show. */

import { element, setText } from "./dom.js";

const SPEEDS = [0.1, 0.25, 0.5, 1, 2, 4];
const FASTEST = "";
const INTENTS = { every_frame: "every frame", freshest: "freshest" };

/**
 * @param {(action: string, value?: any) => Promise<any>} act
 * @param {() => any} snapshot
 */
export function streamControls(act, snapshot) {
  let running = false;
  const play = button("Play", "Play", () => act(running ? "pause" : "play"));
  const step = button("One frame more", "Step", () => act("step", 1));
  const stop = button("Stop", "Stop", () => act("stop"));
  const save = button("Save this picture with its results as PNG", "Save", snapshot);
  const speed = element("select", { "aria-label": "Speed" });
  speed.addEventListener("change", () => act("speed", speed.value === FASTEST ? null : Number(speed.value)));
  const choices = "every frame: nothing is skipped; freshest: the newest picture when there is room";
  const intent = element("select", { "aria-label": "Intent", title: choices });
  for (const [value, text] of Object.entries(INTENTS)) intent.append(element("option", { value }, text));
  intent.addEventListener("change", () => act("intent", intent.value));
  const status = element("span", { class: "fs-status" });
  const buttons = element("span", { class: "fs-buttons" }, play, step, stop, save);
  const paces = "of the source's own pace; fastest: as soon as the last pictures are answered";
  const speedLabel = element("label", { title: paces }, "speed ", speed);
  const root = element("div", { class: "fs-controls", role: "group", "aria-label": "Stream controls" },
    buttons, speedLabel, element("label", {}, "intent ", intent), status);
  return {
    root,
    show(state) {
      running = state.status === "playing";
      const meaning = running ? "Pause" : state.status === "paused" ? "Play" : "Play again";
      setText(play.firstChild, meaning);
      play.title = meaning;
      play.setAttribute("aria-label", meaning);
      stop.disabled = !running && state.status !== "paused";
      speedLabel.hidden = Boolean(state.live);
      if (document.activeElement !== speed) choose(speed, speedsWith(state.speed), state.speed ?? FASTEST);
      if (document.activeElement !== intent) intent.value = state.intent;
      setText(status, state.status);
    },
    end() {
      for (const control of [play, step, stop, speed, intent]) control.disabled = true;
    },
  };
}

function button(meaning, sign, onClick) {
  const made = element("button", { type: "button", title: meaning, "aria-label": meaning }, element("span", { "aria-hidden": "true" }, sign));
  made.addEventListener("click", onClick);
  return made;
}

function speedsWith(speed) {
  return speed === null || SPEEDS.includes(speed) ? SPEEDS : [...SPEEDS, speed].sort((a, b) => a - b);
}

function choose(select, speeds, value) {
  const wanted = [...speeds.map(String), FASTEST];
  if (wanted.join() !== [...select.options].map((option) => option.value).join()) {
    const words = (one) => (one === FASTEST ? "fastest" : `${one}×`);
    select.replaceChildren(...wanted.map((one) => element("option", { value: one }, words(one))));
  }
  select.value = String(value);
}

/** A slider over the last frames; its right end is now. */
export function scrubber(act) {
  const label = "Look back over the last frames";
  const slider = element("input", { type: "range", min: "0", max: "0", step: "1", "aria-label": label });
  const text = element("span", { class: "fs-back" });
  const live = element("button", { type: "button", disabled: true }, "live");
  const root = element("div", { class: "fs-scrub" }, slider, text, live);
  let wanted; // the newest wish while another is under way
  let asking = false;
  const look = async (back) => {
    wanted = back;
    if (asking) return;
    asking = true;
    while (wanted !== undefined) {
      const next = wanted;
      wanted = undefined;
      await act("show", next);
    }
    asking = false;
  };
  slider.addEventListener("input", () => {
    const back = Number(slider.max) - Number(slider.value);
    look(back === 0 ? null : back);
  });
  live.addEventListener("click", () => look(null));
  return {
    root,
    show({ length, back }) {
      const last = Math.max(0, length - 1);
      slider.disabled = last === 0;
      live.disabled = back === null;
      if (!asking) {
        slider.max = String(last);
        slider.value = String(last - (back ?? 0));
      }
      const said = back === null ? "live" : back === 0 ? "held" : `${back} back`;
      setText(text, back === null ? "" : said); // the button beside it says "live"
      slider.setAttribute("aria-valuetext", said);
    },
    end() {
      slider.disabled = live.disabled = true;
    },
  };
}

/**
 * Controls for a plugin's options, made from their JSON Schema.
 *
 * `optionControls` gives one element for each property: a slider, number, text, check box, choice, or JSON where
 * nothing else fits. What somebody enters is told to `set(name, value)`, undefined meaning the default; what cannot
 * be read is shown at the control and told to nobody. All text from the schema goes through `textContent`. Nothing
 * here knows the page.
 *
 *     form.replaceChildren(...optionControls(plugin.options, { threshold: 0.8 }, (name, value) => send(name, value)));
 */

/** An element with its properties and children. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/**
 * @param {object} schema Of all options: an object schema as Pydantic makes it.
 * @param {object} values Options that differ from their defaults.
 * @param {(name: string, value: any) => void} set Told whenever a value changes, and at once of a required option that
 *   has neither value nor default: it gets the value that its control shows.
 * @param {string} [scope] Ends the ids, where a page holds several forms.
 * @returns {HTMLElement[]} In the order of the properties.
 */
export function optionControls(schema, values, set, scope = "") {
  return Object.entries(schema.properties ?? {}).map(([name, wrapped]) => {
    const required = schema.required?.includes(name) ?? false;
    const option = { name, id: `option-${name}${scope}`, schema: unwrapped(wrapped, schema), required };
    return optionControl(option, values[name], (value) => set(name, value));
  });
}

function optionControl({ name, id, schema, required }, given, set) {
  const value = given ?? schema.default;
  const output = element("output", { htmlFor: id });
  const label = element("span", { className: "name", textContent: name });
  const field = element("label", { className: "field", htmlFor: id }, label);
  const input = inputFor(schema, value);
  input.id = id;
  input.oninput = () => {
    output.textContent = input.type === "range" ? input.value : "";
    const read = readInput(input, schema);
    input.setCustomValidity(read.problem ?? "");
    if (input.reportValidity()) set(read.value);
  };
  const option = element("div", { className: "option" }, field);
  if (input.type === "checkbox") field.append(input);
  else {
    field.append(output);
    option.append(input);
  }
  if (input.type === "range") output.textContent = input.value;
  // A required option without a default has no value until somebody gives it one: the one that is shown.
  if (value === undefined && required) set(readInput(input, schema).value);
  if (schema.description) option.append(element("span", { className: "quiet", textContent: schema.description }));
  return option;
}

/** A schema without its wrappings: references followed, and `null` split off what may be null. */
function unwrapped(schema, root) {
  if (schema.$ref) {
    const target = schema.$ref.split("/").slice(1).reduce((node, key) => node?.[key], root);
    return unwrapped({ ...target, ...schema, $ref: undefined }, root);
  }
  const choices = schema.anyOf?.filter(({ type }) => type !== "null");
  if (choices?.length === 1) return unwrapped({ ...choices[0], ...schema, anyOf: undefined, nullable: true }, root);
  return schema;
}

function inputFor(schema, value) {
  if (schema.enum) {
    const choice = (value, index) => element("option", { value: String(index), textContent: String(value) });
    const select = element("select", {}, ...schema.enum.map(choice));
    select.value = String(Math.max(0, schema.enum.indexOf(value)));
    return select;
  }
  if (schema.type === "boolean") return element("input", { type: "checkbox", checked: value === true });
  if (schema.type === "number" || schema.type === "integer") return numberInput(schema, value);
  if (schema.type === "string") return element("input", { type: "text", value: value ?? "", spellcheck: false });
  const text = value === undefined ? "" : JSON.stringify(value);
  return element("textarea", { rows: 2, value: text, placeholder: "JSON", spellcheck: false });
}

function numberInput(schema, value) {
  const whole = schema.type === "integer";
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  const bounded = low !== undefined && high !== undefined && !schema.nullable;
  if (!bounded) {
    const placeholder = schema.nullable ? "none" : "";
    const limits = { min: low ?? "", max: high ?? "", step: whole ? 1 : "any", placeholder };
    return element("input", { type: "number", ...limits, value: value ?? "" });
  }
  const step = schema.multipleOf ?? (whole ? 1 : stepOf(low, high, value ?? low));
  const least = schema.minimum ?? low + step;
  const most = schema.maximum ?? high - step;
  return element("input", { type: "range", min: least, max: most, step, value: value ?? least });
}

/** A round step, about a hundredth of the range, on which the value stands: a slider would move it otherwise. */
function stepOf(low, high, value) {
  const digits = Math.max(0, -Math.floor(Math.log10((high - low) / 50)));
  const fits = (count) => Number.isInteger(Number(((value - low) * 10 ** count).toFixed(6)));
  return 10 ** -([0, 1, 2, 3].map((more) => digits + more).find(fits) ?? digits + 3);
}

/** What a control says: `{value}`, undefined for the default, or a `problem`. */
function readInput(input, schema) {
  if (schema.enum) return { value: schema.enum[Number(input.value)] };
  if (input.type === "checkbox") return { value: input.checked };
  if (input.value === "" && schema.type !== "string") return { value: schema.nullable ? null : undefined };
  if (input.type === "range" || input.type === "number") return { value: Number(input.value) };
  if (schema.type === "string") return { value: input.value };
  try {
    return { value: JSON.parse(input.value) };
  } catch (error) {
    return { problem: `not JSON: ${error.message}` };
  }
}

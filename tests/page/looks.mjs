// Functions that run in the page, and say how it looks.

/// Counts a chart's pixels in the colours of its lines and points.
export function inkOf(id) {
  const canvas = document.querySelector(`#${id} canvas`);
  const styles = getComputedStyle(document.documentElement);
  const colours = ['--hit', '--miss', '--accent'].map((name) => {
    const hex = styles.getPropertyValue(name).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  });
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let ink = 0;
  for (let at = 0; at < data.length; at += 4) {
    const isInk = colours.some((colour) => colour.every((channel, index) => Math.abs(data[at + index] - channel) < 24));
    if (data[at + 3] > 200 && isInk) ink += 1;
  }
  return ink;
}

/// Lists the texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3).
export function contrastFaults() {
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], [r2, g2, b2]) => [r * a + r2 * (1 - a), g * a + g2 * (1 - a), b * a + b2 * (1 - a), 1];
  const behind = (one) => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reduceRight((below, above) => over(above, below), [255, 255, 255, 1]);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((channel) => {
      const share = channel / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const hasText = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll('body *')]
    .filter((one) => hasText(one) && one.getClientRects().length && !one.closest('select, noscript'))
    .map((one) => {
      const back = behind(one);
      const text = over(parse(getComputedStyle(one).color), back);
      const [light, dark] = [luminance(text), luminance(back)].sort((a, b) => b - a);
      return { text: one.textContent.trim().slice(0, 30), ratio: (light + 0.05) / (dark + 0.05) };
    })
    .filter(({ ratio }) => ratio < 4.5)
    .map(({ text, ratio }) => `${text}: ${ratio.toFixed(2)}`);
}
